package throughput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that this one has started.
type child struct {
	name   string
	cmd    *exec.Cmd
	log    string // file
	stop   syscall.Signal
	exited chan struct{} // closed when it has ended
}

// start says what to run.
type start struct {
	name    string
	program string
	args    []string
	env     []string            // beside this process's own
	as      *syscall.Credential // nil: as this process
	stop    syscall.Signal      // what asks it to end
}

// spawn starts a program whose output goes to a file in the folder. It is in a process group of its own, so that a Ctrl-C
// ends the measurement first, and may open many files.
func spawn(dir string, s start) (*child, error) {
	c := &child{name: s.name, log: filepath.Join(dir, s.name+".log"), stop: s.stop, exited: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	defer func() { _ = log.Close() }()         // the child has its own copy
	c.cmd = exec.Command(s.program, s.args...) //nolint:gosec // the user names it
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = "/", log, log
	c.cmd.Env = append(withoutOurs(os.Environ()), s.env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true, Pdeathsig: s.stop}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	go func() { // ends with the child
		_ = c.cmd.Wait() // how it ended stands in its log
		close(c.exited)
	}()
	raiseFiles(c.pid())
	return c, nil
}

// raiseFiles lets a process open as many descriptors as it may at most. One that may not be told keeps what it has, and
// says itself when that is too little.
func raiseFiles(pid int) {
	var limit unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil)
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// ended tells whether it has, and why.
func (c *child) ended() error {
	select {
	case <-c.exited:
		return fmt.Errorf("%s has ended: %s", c.name, c.lastLines())
	default:
		return nil
	}
}

// lastLines is the end of its log.
func (c *child) lastLines() string {
	content, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	content = bytes.TrimSpace(content)
	lines := strings.Split(string(content[max(0, len(content)-1000):]), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// end asks the process to end, and insists after the limit.
func (c *child) end(limit time.Duration) error {
	_ = c.cmd.Process.Signal(c.stop) // it may have ended
	select {
	case <-c.exited:
		return nil
	case <-time.After(limit):
	}
	_ = c.cmd.Process.Kill()
	<-c.exited
	return fmt.Errorf("%s did not end within %v and was killed", c.name, limit)
}

// withoutOurs keeps variables that would override the configuration from walgate's processes.
func withoutOurs(environ []string) []string {
	var kept []string
	for _, assignment := range environ {
		if !strings.HasPrefix(assignment, "WALGATE_") {
			kept = append(kept, assignment)
		}
	}
	return kept
}

// unprivileged is who runs programs that refuse to run as root; nil when this process is not root's.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find user postgres: %w", err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("read ids of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// until asks again and again, for at most the limit, whether something is so. A process that ends answers for it.
func until(ctx context.Context, limit time.Duration, of *child, ready func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if of != nil {
			if ended := of.ended(); ended != nil {
				return ended
			}
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// program finds one in PATH, then among PostgreSQL's own.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	found, globErr := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if globErr != nil || len(found) == 0 {
		if path, sbinErr := exec.LookPath("/usr/sbin/" + name); sbinErr == nil {
			return path, nil
		}
		return "", err
	}
	return found[len(found)-1], nil
}
