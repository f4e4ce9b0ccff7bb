package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// StopFast shuts down (SIGINT), ends hanging walsenders after Config.StopGrace, and reads what is left on the disk.
// ErrStopIncomplete when ctx ends first.
func (i *Instance) StopFast(ctx context.Context) (Stopped, error) {
	defer i.exclusive()()
	client, err := i.guard(ctx)
	if err != nil {
		return Stopped{}, fmt.Errorf("stop: %w", err)
	}
	i.tell(client.State())
	if err := i.signal(ctx, syscall.SIGINT); err != nil && !errors.Is(err, ErrNotRunning) {
		return Stopped{}, fmt.Errorf("stop: %w", err)
	}
	if err := i.waitStopped(ctx); err != nil {
		return Stopped{}, fmt.Errorf("stop: %w", err)
	}
	stopped, err := i.stopped(ctx)
	if err != nil {
		return stopped, fmt.Errorf("stop: %w", err)
	}
	return stopped, nil
}

// waitStopped waits for the end of the postmaster. After the grace it ends the walsenders, which wait for standbys
// that do not read: the checkpoint is written by then, and what they still have to send is in it. SIGTERM first,
// SIGQUIT for one that is stuck; both leave a control file that says "shut down".
func (i *Instance) waitStopped(ctx context.Context) error {
	grace := time.NewTimer(i.cfg.StopGrace)
	defer grace.Stop()
	sig := syscall.SIGTERM
	for {
		life, changed := i.life.Changed()
		if life.Postmaster == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-grace.C:
			i.endSenders(sig)
			// SIGQUIT while the shutdown checkpoint is not written would make the stop an immediate one.
			if c, err := i.control(ctx); err == nil && (c.CleanPrimary() || c.CleanStandby()) {
				sig = syscall.SIGQUIT
			}
			grace.Reset(i.cfg.StopGrace)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrStopIncomplete, context.Cause(ctx))
		}
	}
}

// endSenders signals the walsenders that are left.
func (i *Instance) endSenders(sig syscall.Signal) {
	named, _, err := i.children()
	if err != nil {
		return
	}
	for pid, title := range named {
		if word, _, _ := strings.Cut(title, " "); word != "walsender" {
			continue
		}
		i.log.Warn("a walsender hangs in the shutdown, ending it", "pid", pid, "signal", sig.String())
		_ = syscall.Kill(pid, sig) // it may have ended
	}
}

// stopped reads what a stop left.
func (i *Instance) stopped(ctx context.Context) (Stopped, error) {
	c, err := i.control(ctx)
	if err != nil {
		return Stopped{}, err
	}
	s := Stopped{Control: c, Clean: c.CleanPrimary() || c.CleanStandby()}
	if s.Timeline, _, err = newestTimeline(i.cfg.DataDir, c); err != nil {
		return s, err
	}
	from := c.Checkpoint
	if s.Timeline != c.CheckpointTimeline {
		from = 0
	}
	if s.End, err = i.endOfWAL(ctx, s.Timeline, from); err != nil {
		return s, err
	}
	return s, nil
}
