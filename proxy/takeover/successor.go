package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"

	"github.com/walgate/walgate/proxy/sockets"
)

// ErrNobody says that no process listens for a takeover.
var ErrNobody = errors.New("no process to take over from")

// RefusedError says why the running process does not let itself be replaced.
type RefusedError struct{ Why string }

// Error tells it.
func (e *RefusedError) Error() string { return "the running process refuses: " + e.Why }

// Successor is the takeover as the new process sees it. Should the old process end on the way, the new one goes on alone:
// it has the sockets.
type Successor struct {
	Peer Identity // the old process
	link *link
	log  *slog.Logger
}

// Dial asks the process that listens at the path for its sockets. It goes on accepting from them; nothing else has
// changed yet, and the end of this process is the end of the takeover.
func Dial(ctx context.Context, path string, self Identity, mesh *Mesh, log *slog.Logger) (*Successor, []sockets.Given, error) {
	var dialer net.Dialer
	opened, err := dialer.DialContext(ctx, "unixpacket", path)
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil, fmt.Errorf("%w at %s", ErrNobody, path)
	case err != nil:
		return nil, nil, fmt.Errorf("ask for a takeover: %w", err)
	}
	c := conn{opened.(*net.UnixConn)}
	m, given, siblings, err := ask(ctx, c, self)
	if err != nil {
		_ = c.Close() // nothing was promised
		return nil, nil, fmt.Errorf("take over at %s: %w", path, err)
	}
	mesh.introductions(siblings, m.Siblings)
	return &Successor{Peer: m.From, link: mesh.join(c, m.From), log: log}, given, nil
}

// Holding returns the process that listens at the path.
func Holding(path string) (pid int, err error) {
	c, err := net.DialUnix("unixpacket", nil, local(path))
	if err != nil {
		return 0, fmt.Errorf("look who can be taken over from: %w", err)
	}
	defer func() { _ = c.Close() }() // it has told what we wanted to know
	pid, _, err = conn{c}.peer()
	return pid, err
}

// ask says who this process is and takes the offer.
func ask(ctx context.Context, c conn, self Identity) (m message, given []sockets.Given, siblings []int, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	pid, allowed, err := c.peer()
	if err == nil && !allowed {
		err = fmt.Errorf("process %d belongs to another user", pid)
	}
	if err != nil {
		return m, nil, nil, err
	}
	if err := c.send(message{Kind: hello, Protocol: protocol, From: self}); err != nil {
		return m, nil, nil, err
	}
	m, descriptors, err := c.receive()
	if errors.Is(err, io.EOF) {
		err = errors.New("the running process has ended, or another one is taking over from it")
	}
	if err == nil {
		err = m.check(offer, self.Cluster)
	}
	if err == nil && len(descriptors) != len(m.Ours)+len(m.Siblings) {
		err = fmt.Errorf("%d descriptors came instead of %d", len(descriptors), len(m.Ours)+len(m.Siblings))
	}
	if err != nil {
		closeAll(descriptors)
		return m, nil, nil, err
	}
	m.From.PID = pid
	for i, ours := range m.Ours {
		l, err := sockets.FromDescriptor(descriptors[i])
		if err != nil {
			closeAll(descriptors[i+1:])
			return m, nil, nil, err
		}
		given = append(given, sockets.Given{Listener: l, Ours: ours})
	}
	return m, given, descriptors[len(m.Ours):], nil
}

// Prepare tells the old process that this one will serve in a moment, and waits until it has made way.
func (s *Successor) Prepare(ctx context.Context) error { return s.step(ctx, prepare, prepared) }

// Serve tells the old process that this one accepts, and waits until it does not accept any more. Its sessions go on; Gone
// tells of their end.
func (s *Successor) Serve(ctx context.Context) error { return s.step(ctx, serving, yielded) }

// Gone is closed when the old process has ended.
func (s *Successor) Gone() <-chan struct{} { return s.link.ended }

func (s *Successor) step(ctx context.Context, say, want kind) error {
	if err := s.link.tell(message{Kind: say}); err != nil {
		s.alone(say)
		return nil
	}
	select {
	case m, ok := <-s.link.steps:
		if ok && m.Kind != want {
			return fmt.Errorf("%q came instead of %q", m.Kind, want)
		}
		if !ok {
			s.alone(say)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the old process: %w", context.Cause(ctx))
	}
}

// alone reports that the old process ended before its time.
func (s *Successor) alone(at kind) {
	s.log.Warn("the old process has ended during the takeover", "pid", s.Peer.PID, "step", string(at))
}
