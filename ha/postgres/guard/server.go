package guard

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/replication/boottime"
)

// server is the guard's state. Everything in it belongs to loop, which runs on the thread that forks.
type server struct {
	log    *slog.Logger
	linger time.Duration
	timer  *timer

	in       chan message  // from the links; never closed
	done     chan struct{} // closed when loop has ended
	children chan os.Signal
	links    map[*link]struct{}
	owner    *link // the agent that attached last: only it may arm, start and kill

	state    State
	waiting  []waiter // for the proof of death
	quitting bool
}

// waiter is owed an answer when the instance is dead.
type waiter struct {
	link *link
	id   uint64
}

// message is news from a link: a request, its birth or its end.
type message struct {
	link    *link
	request *request
	opened  bool
	closed  bool
}

// rescan is how often a kill under way looks again at who is left, should a signal have been missed.
const rescan = 50 * time.Millisecond

// loop ends when nothing is left to guard.
func (s *server) loop(ctx context.Context) {
	s.state.Guard = os.Getpid()
	lonely := time.NewTimer(s.linger)
	defer lonely.Stop()
	again := time.NewTicker(rescan)
	defer again.Stop()
	for !s.quitting {
		var tick <-chan time.Time
		if s.state.Killing {
			tick = again.C
		}
		var gone <-chan struct{}
		if !s.state.Remaining {
			gone = ctx.Done()
		}
		select {
		case <-s.children:
		case <-s.timer.fire:
		case <-tick:
		case <-gone:
			return
		case <-lonely.C:
			if len(s.links) == 0 && !s.state.Remaining {
				s.reap()
				return
			}
		case m := <-s.in:
			// After any pause the clock is looked at before anything else: a request that waited meanwhile is late.
			s.checkDeadline()
			s.handle(m)
			lonely.Reset(s.linger)
			continue
		}
		s.checkDeadline()
		before := s.state.Remaining
		s.reap()
		if before && !s.state.Remaining {
			lonely.Reset(s.linger)
		}
	}
}

// checkDeadline begins to kill when the deadline has passed.
func (s *server) checkDeadline() {
	if d := s.state.Deadline; d.Armed() && !boottime.Now().Before(d.At) && s.state.Remaining && !s.state.Killing {
		s.log.Warn("deadline passed, killing the instance", "epoch", d.Epoch, "late", boottime.Now().Sub(d.At))
		s.kill("the deadline passed")
	}
}

// kill sends SIGKILL to the postmaster and to all children; reap goes on until none is left.
func (s *server) kill(why string) {
	s.state.Killing, s.state.LastKill = true, why
	if s.state.Postmaster != 0 {
		_ = unix.Kill(s.state.Postmaster, unix.SIGKILL) // a child that is not reaped: the number is its own
	}
	s.killChildren()
}

func (s *server) killChildren() {
	for _, pid := range Children(os.Getpid()) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// reap takes in the dead. When the postmaster is among them the rest is killed: orphaned backends would go on
// acknowledging commits. ECHILD is the proof that nothing is left.
func (s *server) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR { //nolint:errorlint // errno of a system call, never wrapped
			continue
		}
		if err != nil {
			s.proven()
			return
		}
		if pid == 0 {
			break
		}
		if pid == s.state.Postmaster {
			s.state.LastExit = describe(status)
			s.log.Info("postmaster ended", "pid", pid, "status", s.state.LastExit)
			s.state.Postmaster, s.state.StartTime = 0, 0
			if !s.state.Killing {
				s.kill("the postmaster ended")
			}
		}
	}
	if s.state.Killing {
		s.killChildren()
	}
}

// proven notes that wait said ECHILD: whoever waits for the proof gets it.
func (s *server) proven() {
	if !s.state.Remaining {
		return
	}
	s.state.Remaining, s.state.Killing = false, false
	s.state.Deadline = Deadline{} // it was for an instance that is no more
	s.state.Proofs++
	if err := s.timer.set(0); err != nil {
		s.log.Error("stop timer", "error", err)
	}
	s.log.Info("no process of the instance is left", "proof", s.state.Proofs)
	for _, w := range s.waiting {
		s.reply(w.link, w.id, nil)
	}
	s.waiting = nil
	s.news()
}

// news tells every link the state.
func (s *server) news() {
	for l := range s.links {
		s.send(l, response{State: s.state})
	}
}

func (s *server) reply(l *link, id uint64, err error) {
	r := response{ID: id, State: s.state}
	if err != nil {
		r.Error, r.Code = err.Error(), codeOf(err)
	}
	s.send(l, r)
}

// send never waits: a link that does not read is cut.
func (s *server) send(l *link, r response) {
	if _, ok := s.links[l]; !ok {
		return
	}
	s.state.Seq++
	r.State.Seq = s.state.Seq
	select {
	case l.out <- r:
	default:
		s.drop(l)
	}
}

func (s *server) drop(l *link) {
	if _, ok := s.links[l]; !ok {
		return
	}
	delete(s.links, l)
	if s.owner == l {
		s.owner = nil
	}
	close(l.out)
	_ = l.conn.Close()
}

// handle answers one message.
func (s *server) handle(m message) {
	switch {
	case m.opened:
		s.links[m.link] = struct{}{}
		s.owner = m.link
		s.send(m.link, response{State: s.state})
		return
	case m.closed:
		s.drop(m.link)
		return
	}
	r := m.request
	if m.link != s.owner && r.Verb != verbState && r.Verb != verbKill {
		s.reply(m.link, r.ID, ErrStale)
		return
	}
	switch r.Verb {
	case verbState:
		s.reply(m.link, r.ID, nil)
	case verbStart:
		s.reply(m.link, r.ID, s.start(r.Start))
	case verbSignal:
		s.reply(m.link, r.ID, s.signal(syscall.Signal(r.Signal)))
	case verbArm:
		s.reply(m.link, r.ID, s.arm(r.Deadline))
	case verbDisarm:
		s.reply(m.link, r.ID, s.disarm(r.Why))
	case verbKill:
		if !s.state.Remaining {
			s.reply(m.link, r.ID, nil)
			return
		}
		s.waiting = append(s.waiting, waiter{m.link, r.ID})
		s.log.Info("killing the instance", "why", r.Why)
		s.kill(r.Why)
		s.reap()
	case verbQuit:
		if s.state.Remaining {
			s.reply(m.link, r.ID, ErrOccupied)
			return
		}
		s.quitting = true // the closed link is the answer
	default:
		s.reply(m.link, r.ID, fmt.Errorf("verb %q: %w", r.Verb, ErrRequest))
	}
}

// start forks the postmaster, on the loop's own thread.
func (s *server) start(spec *Spec) error {
	if spec == nil {
		return fmt.Errorf("start without a specification: %w", ErrRequest)
	}
	s.reap()
	if s.state.Remaining || s.state.Killing {
		return ErrOccupied
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open null device: %w", err)
	}
	defer func() { _ = null.Close() }()
	output, err := os.OpenFile(spec.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = output.Close() }()
	attributes := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGQUIT}
	if o := spec.Owner; o != nil {
		attributes.Credential = &syscall.Credential{Uid: o.UID, Gid: o.GID, Groups: o.Groups}
	}
	pid, err := syscall.ForkExec(spec.Path, spec.Args, &syscall.ProcAttr{
		Dir: spec.Dir, Env: spec.Env, Files: []uintptr{null.Fd(), output.Fd(), output.Fd()}, Sys: attributes,
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", spec.Path, err)
	}
	s.state.Postmaster, s.state.Remaining = pid, true
	s.state.LastExit, s.state.LastKill = "", ""
	if p, err := ReadProcess(pid); err == nil {
		s.state.StartTime = p.StartTime
	}
	s.log.Info("postmaster started", "pid", pid)
	s.news()
	return nil
}

func (s *server) signal(sig syscall.Signal) error {
	if s.state.Postmaster == 0 {
		return ErrIdle
	}
	if err := unix.Kill(s.state.Postmaster, sig); err != nil {
		return fmt.Errorf("signal postmaster: %w", err)
	}
	return nil
}

// arm sets the deadline. One that has passed is never renewed.
func (s *server) arm(d *Deadline) error {
	switch {
	case d == nil || !d.Armed():
		return fmt.Errorf("arm without a deadline: %w", ErrRequest)
	case s.state.Killing:
		return ErrPassed
	case d.Epoch < s.state.Epoch:
		return ErrStale
	case !s.state.Remaining && !boottime.Now().Before(d.At):
		return ErrPassed // it would only kill the next instance
	}
	if err := s.timer.set(d.At); err != nil {
		return err
	}
	s.state.Deadline, s.state.Epoch = *d, d.Epoch
	s.checkDeadline()
	if s.state.Killing {
		return ErrPassed
	}
	return nil
}

func (s *server) disarm(why string) error {
	if s.state.Killing {
		return ErrPassed
	}
	if s.state.Deadline.Armed() {
		s.log.Info("disarmed", "epoch", s.state.Deadline.Epoch, "why", why)
	}
	s.state.Deadline = Deadline{}
	return s.timer.set(0)
}

// describe words a wait status.
func describe(status unix.WaitStatus) string {
	switch {
	case status.Signaled():
		return "killed by signal " + status.Signal().String()
	default:
		return fmt.Sprintf("exit code %d", status.ExitStatus())
	}
}
