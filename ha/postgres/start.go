package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// Start boots as standby and returns when connections are accepted; when ctx ends earlier the postmaster goes on, and
// Start may be called again. A running instance is only told whom to follow. ErrDied carries the log's last words.
func (i *Instance) Start(ctx context.Context, o StartOptions) error {
	defer i.exclusive()()
	client, err := i.guard(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	state, err := client.Refresh(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	i.tell(state)
	if state.Postmaster == 0 {
		if err := i.boot(ctx, client, o); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	} else if err := i.follow(ctx, o.Follow); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := i.waitAccepting(ctx, "ready", "standby"); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// boot prepares the files and has the guard fork the postmaster.
func (i *Instance) boot(ctx context.Context, client *guard.Client, o StartOptions) error {
	presence, err := presenceOf(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if presence != Present {
		return fmt.Errorf("%s is %s: %w", i.cfg.DataDir, presence, ErrNotPresent)
	}
	if exists(i.markerPath()) {
		return ErrRewindBroken
	}
	left, err := guard.Find(i.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("look for processes of the instance: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d of them, the first is %d: %w", len(left), left[0].PID, ErrUnguarded)
	}
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return err
	}
	bins, err := i.binaries(ctx)
	if err != nil {
		return err
	}
	if err := i.prepareFiles(owner, o); err != nil {
		return err
	}
	// A standby refuses to start with less than its WAL was written with, which its own control file tells too.
	c, err := i.control(ctx)
	if err != nil {
		return err
	}
	primary := o.Minimums.atLeast(c.Minimums)
	i.mu.Lock()
	parameters := i.parameters
	i.mu.Unlock()
	i.rotateLog()
	if err := makeLog(i.cfg.LogFile, owner); err != nil {
		return err
	}
	env := append(baseEnv(), "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0")
	args := i.commandLine(bins, parameters, primary)
	err = client.Start(ctx, guard.Spec{
		Path: args[0], Args: args, Env: env, Dir: "/", LogFile: i.cfg.LogFile, Owner: owner,
	})
	i.tell(client.State())
	return err
}

// prepareFiles writes settings, passwords and the signal to boot as standby.
func (i *Instance) prepareFiles(owner *guard.Owner, o StartOptions) error {
	if err := i.makeDirs(owner); err != nil {
		return err
	}
	if err := i.writeStatic(owner); err != nil {
		return err
	}
	i.mu.Lock()
	parameters := i.parameters
	i.mu.Unlock()
	if err := i.writeParameters(owner, parameters); err != nil {
		return err
	}
	if err := i.writeFollow(owner, o.Follow); err != nil {
		return err
	}
	if err := i.scrub(owner); err != nil {
		return err
	}
	// No process of the instance lives (boot looked), so a pid file is stale, whoever has that number now. PostgreSQL
	// itself would refuse to start beside any living process of its user.
	if err := os.Remove(filepath.Join(i.cfg.DataDir, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale pid file: %w", err)
	}
	if err := os.Remove(filepath.Join(i.cfg.DataDir, "recovery.signal")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove recovery.signal: %w", err)
	}
	return writeFile(owner, filepath.Join(i.cfg.DataDir, "standby.signal"), nil)
}

// waitAccepting waits until postmaster.pid tells one of the states, or the postmaster has ended. The kernel tells of
// changes (inotify), so nothing is polled in steps that a failover would feel.
func (i *Instance) waitAccepting(ctx context.Context, states ...string) error {
	events, err := watchDir(i.cfg.DataDir)
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }()
	touched := make(chan struct{}, 1)
	i.wg.Go(func() { drain(events, touched) }) // ends when events is closed
	for {
		life, changed := i.life.Changed()
		if life.Postmaster == 0 {
			return fmt.Errorf("%w: %s", ErrDied, i.lastWords())
		}
		lines := pidFile(i.cfg.DataDir)
		if len(lines) > 7 && strings.TrimSpace(lines[0]) == fmt.Sprint(life.Postmaster) {
			for _, s := range states {
				if strings.TrimSpace(lines[7]) == s {
					return nil
				}
			}
		}
		select {
		case <-touched:
		case <-changed:
		case <-time.After(time.Second): // should an event be lost
		case <-ctx.Done():
			return fmt.Errorf("wait until it accepts connections: %w", context.Cause(ctx))
		}
	}
}

// watchDir opens an inotify descriptor for changes of the files in dir.
func watchDir(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch data directory: %w", err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch data directory: %w", err)
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

// drain ends when events is closed.
func drain(events *os.File, touched chan<- struct{}) {
	buffer := make([]byte, 4096)
	for {
		if _, err := events.Read(buffer); err != nil {
			return
		}
		select {
		case touched <- struct{}{}:
		default:
		}
	}
}

// lastWords returns the newest lines of the log that say why PostgreSQL ended.
func (i *Instance) lastWords() string {
	f, err := os.Open(i.cfg.LogFile)
	if err != nil {
		return "no log"
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		if _, err := f.Seek(max(size-16<<10, 0), io.SeekStart); err != nil {
			return "no log"
		}
	}
	content, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return "no log"
	}
	var words []string
	for line := range strings.Lines(string(content)) {
		for _, level := range []string{"FATAL:", "PANIC:", "ERROR:", "HINT:", "DETAIL:"} {
			if strings.Contains(line, level) {
				words = append(words, strings.TrimSpace(line))
			}
		}
	}
	if len(words) > 6 {
		words = words[len(words)-6:]
	}
	if len(words) == 0 {
		return "see " + i.cfg.LogFile
	}
	return strings.Join(words, " | ")
}

// makeLog creates the log file for its readers.
func makeLog(path string, owner *guard.Owner) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	return give(owner, path)
}

// rotateLog keeps the log near Config.LogBytes, with one old copy. PostgreSQL has the file open for appending, so its
// content is moved away and the file is cut; a line written between the two is lost.
func (i *Instance) rotateLog() {
	info, err := os.Stat(i.cfg.LogFile)
	if err != nil || info.Size() < i.cfg.LogBytes {
		return
	}
	if err := copyFile(i.cfg.LogFile, i.cfg.LogFile+".1", info.Size()); err != nil {
		i.log.Warn("the log cannot be rotated", "error", err)
		return
	}
	if err := os.Truncate(i.cfg.LogFile, 0); err != nil {
		i.log.Warn("the log cannot be rotated", "error", err)
	}
}

// Maintain does small chores: call it every minute or so. It rotates the log.
func (i *Instance) Maintain() { i.rotateLog() }

// copyFile copies up to limit bytes and makes them durable.
func copyFile(from, to string, limit int64) error {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	_, err = io.Copy(target, io.LimitReader(source, limit))
	if err == nil {
		err = target.Sync()
	}
	if err = errors.Join(err, target.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// reload makes PostgreSQL read its files again.
func (i *Instance) reload(ctx context.Context) error {
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if err := i.scrub(owner); err != nil {
		return err
	}
	return i.signal(ctx, syscall.SIGHUP)
}
