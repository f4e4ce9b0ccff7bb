package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication"
)

// Processes is the news of guard and postmaster: published when either starts or ends. When the guard dies, the instance
// is killed whole first and Fenced rises.
func (i *Instance) Processes() *replication.Feed[Processes] { return &i.life }

// change publishes a changed copy of the news.
func (i *Instance) change(edit func(*Processes)) {
	i.lifeMu.Lock()
	defer i.lifeMu.Unlock()
	p := i.life.Load()
	before := p
	edit(&p)
	if p != before {
		i.life.Publish(p)
	}
}

// Attach finds the guard of this instance or starts one, makes this process a child subreaper, and begins to watch
// guard and postmaster by pidfd. The other methods that need the guard attach by themselves.
func (i *Instance) Attach(ctx context.Context) (Processes, error) {
	if _, err := i.guard(ctx); err != nil {
		return i.life.Load(), err
	}
	return i.life.Load(), nil
}

// guard returns the connection to the guard, a new one if need be.
func (i *Instance) guard(ctx context.Context) (*guard.Client, error) {
	if c := i.attached(); c != nil {
		return c, nil
	}
	select {
	case i.attaching <- struct{}{}:
		defer func() { <-i.attaching }()
	case <-ctx.Done():
		return nil, fmt.Errorf("attach to guard: %w", context.Cause(ctx))
	}
	if c := i.attached(); c != nil {
		return c, nil
	}
	select {
	case <-i.closing:
		return nil, fmt.Errorf("attach to guard: %w", os.ErrClosed)
	default:
	}
	c, err := i.findGuard(ctx)
	if err != nil {
		return nil, fmt.Errorf("attach to guard: %w", err)
	}
	watch, err := guard.NewWatch(c.PID(), 0)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("attach to guard: %w", err)
	}
	i.mu.Lock()
	i.client = c
	i.mu.Unlock()
	i.tell(c.State())
	i.wg.Go(func() { i.followGuard(c, watch) })
	return c, nil
}

func (i *Instance) attached() *guard.Client {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.client
}

// findGuard dials the guard, or spawns one.
func (i *Instance) findGuard(ctx context.Context) (*guard.Client, error) {
	if err := guard.BecomeSubreaper(); err != nil {
		return nil, err
	}
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := i.makeDirs(owner); err != nil {
		return nil, err
	}
	socket := i.cfg.RunDir + "/guard.sock"
	c, err := guard.Dial(ctx, socket)
	if !errors.Is(err, guard.ErrNoGuard) {
		return c, err
	}
	command := i.cfg.GuardCommand
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own executable: %w", err)
		}
		command = []string{self, "guard"}
	}
	return guard.Spawn(ctx, guard.SpawnOptions{
		Command: command, Socket: socket, Lock: i.statePath("guard.lock"), Linger: i.cfg.GuardLinger,
		LogFile: i.statePath("guard.log"),
	})
}

// tell publishes what the guard said, unless something newer was told.
func (i *Instance) tell(s guard.State) {
	i.change(func(p *Processes) {
		if s.Guard == p.Guard && s.Seq < p.seq {
			return
		}
		p.seq = s.Seq
		p.Guard, p.Postmaster, p.StartTime = s.Guard, s.Postmaster, s.StartTime
		p.Deadline, p.LastExit = s.Deadline, s.LastExit
		if s.Proofs > p.proofs {
			p.Fenced += s.Proofs - p.proofs
		}
		p.proofs = s.Proofs
	})
}

// followGuard ends when the guard or the connection does, or with Close. It watches the postmaster too: a frozen guard
// would not tell of its end.
func (i *Instance) followGuard(c *guard.Client, guardWatch *guard.Watch) {
	defer guardWatch.Close()
	defer c.Close()
	var postmaster *guard.Watch
	defer func() {
		if postmaster != nil {
			postmaster.Close()
		}
	}()
	news, state := c.News(), c.State()
	for {
		if postmaster != nil && postmaster.PID != state.Postmaster {
			postmaster.Close()
			postmaster = nil
		}
		var ended <-chan struct{}
		if state.Postmaster != 0 {
			if postmaster == nil {
				postmaster, _ = guard.NewWatch(state.Postmaster, state.StartTime) // without it the guard's word counts
			}
			if postmaster != nil && i.life.Load().Postmaster != 0 {
				ended = postmaster.Done()
			}
		}
		select {
		case <-i.closing:
			return
		case <-guardWatch.Done():
			i.guardDied(c)
			return
		case <-ended:
			i.log.Info("postmaster ended", "pid", state.Postmaster)
			i.change(func(p *Processes) { p.Postmaster, p.StartTime = 0, 0 })
		case s, ok := <-news:
			if !ok {
				i.guardLost(c, guardWatch)
				return
			}
			state = s
			i.tell(s)
		}
	}
}

// guardLost tells a dead guard from a lost connection: the next Attach dials again.
func (i *Instance) guardLost(c *guard.Client, guardWatch *guard.Watch) {
	select {
	case <-guardWatch.Done():
		i.guardDied(c)
		return
	case <-i.closing:
		return
	case <-time.After(500 * time.Millisecond):
	}
	i.log.Warn("lost the connection to the guard", "guard", c.PID())
	i.forget(c)
	i.change(func(p *Processes) { p.Guard, p.proofs, p.seq = 0, 0, 0 })
}

// guardDied kills what is left: nobody holds the deadline any more.
func (i *Instance) guardDied(c *guard.Client) {
	defer i.forget(c)
	before := i.life.Load()
	if before.Postmaster != 0 {
		i.log.Error("the guard died, killing the instance", "guard", c.PID(), "postmaster", before.Postmaster)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // it ends with Close, as this goroutine does
	defer cancel()
	i.wg.Go(func() { // ends with the sweep
		select {
		case <-i.closing:
			cancel()
		case <-ctx.Done():
		}
	})
	err := guard.Sweep(ctx, i.cfg.DataDir)
	if err != nil {
		i.log.Error("what the guard left is not proven dead", "error", err)
	}
	i.change(func(p *Processes) {
		p.Guard, p.Deadline, p.proofs, p.seq = 0, Deadline{}, 0, 0
		if err == nil {
			p.Postmaster, p.StartTime = 0, 0
			p.Fenced++
		}
	})
}

// forget drops a connection that has ended.
func (i *Instance) forget(c *guard.Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.client == c {
		i.client = nil
	}
}

// Arm sets the guard's deadline. It fails when the guard's present deadline has passed or belongs to a later epoch: the
// instance is then being killed.
func (i *Instance) Arm(ctx context.Context, d Deadline) error {
	c, err := i.guard(ctx)
	if err != nil {
		return err
	}
	return c.Arm(ctx, d)
}

// Disarm removes the deadline: only for a standby, or while the record is paused.
func (i *Instance) Disarm(ctx context.Context, why string) error {
	c, err := i.guard(ctx)
	if err != nil {
		return err
	}
	return c.Disarm(ctx, why)
}

// QuitGuard ends the guard. It refuses while a postmaster runs.
func (i *Instance) QuitGuard(ctx context.Context) error {
	c, err := i.guard(ctx)
	if err != nil {
		return err
	}
	return c.Quit(ctx)
}

// signal sends a signal to the postmaster by way of its parent, so that no other process can be hit.
func (i *Instance) signal(ctx context.Context, sig syscall.Signal) error {
	c, err := i.guard(ctx)
	if err != nil {
		return err
	}
	if err := c.Signal(ctx, sig); err != nil {
		if errors.Is(err, guard.ErrIdle) {
			return ErrNotRunning
		}
		return err
	}
	return nil
}

// killPatience is how long a guard may take to kill before the agent does it, the guard included.
const killPatience = 500 * time.Millisecond

// KillWhole kills every process of the instance with SIGKILL and returns nil only on proof that none is left: the
// guard's ECHILD, and no process in the data directory. A guard that does not manage is killed too.
func (i *Instance) KillWhole(ctx context.Context) error {
	if c := i.attached(); c != nil {
		patience, cancel := context.WithTimeout(ctx, killPatience)
		err := c.Kill(patience, "the agent asked")
		cancel()
		if err != nil {
			i.log.Warn("the guard does not kill, killing both", "guard", c.PID(), "error", err)
			if kerr := syscall.Kill(c.PID(), syscall.SIGKILL); kerr != nil && !errors.Is(kerr, syscall.ESRCH) {
				return fmt.Errorf("kill whole: guard: %w", kerr)
			}
		}
	}
	if err := guard.Sweep(ctx, i.cfg.DataDir); err != nil {
		return fmt.Errorf("kill whole: %w", err)
	}
	i.change(func(p *Processes) { p.Postmaster, p.StartTime = 0, 0 })
	return nil
}

// Stuck counts the processes of the instance that do not run: stopped ones (state T) go on only by SIGCONT, those in
// uninterruptible sleep (state D) wait for a device.
type Stuck struct {
	Processes, Stopped, Waiting int
	Postmaster                  bool // it is among the stopped
}

// Stuck looks at /proc.
func (i *Instance) Stuck() (Stuck, error) {
	found, err := guard.Find(i.cfg.DataDir)
	if err != nil {
		return Stuck{}, fmt.Errorf("look for processes of the instance: %w", err)
	}
	s := Stuck{Processes: len(found)}
	for _, p := range found {
		switch p.State {
		case 'T', 't':
			s.Stopped++
			s.Postmaster = s.Postmaster || p.PID == i.life.Load().Postmaster
		case 'D':
			s.Waiting++
		}
	}
	return s, nil
}
