package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/walgate/walgate/proxy/sockets"
)

// Host is the running process. Its methods are called one after the other.
type Host interface {
	// Offer returns the listening sockets, or why nobody may take over now.
	Offer() ([]sockets.Given, error)
	// Prepare makes way for the new process in everything that bears the proxy's name; accepting goes on.
	Prepare(ctx context.Context)
	// Withdraw undoes Prepare: the new process has gone.
	Withdraw()
	// Yield stops accepting. When it returns no connection will be accepted any more. The sessions go on.
	Yield()
}

// Holder waits for a process that takes over from this one.
type Holder struct {
	self     Identity
	host     Host
	mesh     *Mesh
	log      *slog.Logger
	listener *net.UnixListener
}

// helloTimeout is how long a process may take to say who it is.
const helloTimeout = 5 * time.Second

// Listen opens the socket at the path, for this user alone. One that an ended process has left is removed.
func Listen(ctx context.Context, path string, self Identity, host Host, mesh *Mesh, log *slog.Logger) (*Holder, error) {
	if err := sockets.RemoveStale(ctx, "unixpacket", path); err != nil {
		return nil, fmt.Errorf("listen for a takeover: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", local(path))
	if err != nil {
		return nil, fmt.Errorf("listen for a takeover: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // who was faster is refused by its user id
		_ = l.Close() // the first error is the one that tells
		return nil, fmt.Errorf("listen for a takeover: %w", err)
	}
	return &Holder{self: self, host: host, mesh: mesh, log: log, listener: l}, nil
}

// Run deals with one process at a time, and returns nil when one has taken over. Then nothing listens at the path any
// more. It returns the cause of ctx otherwise.
func (h *Holder) Run(ctx context.Context) error {
	defer func() { _ = h.listener.Close() }() // it may be closed already
	stop := context.AfterFunc(ctx, func() { _ = h.listener.Close() })
	defer stop()
	for {
		c, err := h.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close() // nothing was promised
			}
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("wait for a takeover: %w", err)
		}
		if done, err := h.serve(ctx, conn{c}); done {
			return nil
		} else if !errors.Is(err, io.EOF) { // else somebody looked who is here
			h.log.Warn("no takeover", "reason", err)
		}
	}
}

// serve has the conversation with one process; done means that it has taken over.
func (h *Holder) serve(ctx context.Context, c conn) (done bool, err error) {
	newcomer, given, err := h.greet(c)
	if err != nil {
		_ = c.send(message{Kind: refusal, Why: err.Error()}) // it may have gone
		_ = c.Close()                                        // nothing was promised
		return false, err
	}
	h.log.Info("takeover begins", "pid", newcomer.PID, "version", newcomer.Version, "own_version", h.self.Version)
	l, err := h.offer(c, newcomer, given)
	if err != nil {
		_ = c.Close() // nothing was promised
		return false, err
	}
	return h.steps(ctx, l)
}

// greet hears who wants to take over, and decides whether it may.
func (h *Holder) greet(c conn) (newcomer Identity, given []sockets.Given, err error) {
	pid, allowed, err := c.peer()
	if err != nil {
		return newcomer, nil, err
	}
	if !allowed {
		return newcomer, nil, fmt.Errorf("process %d belongs to another user", pid)
	}
	_ = c.SetDeadline(time.Now().Add(helloTimeout)) // if this fails, reading does too
	m, descriptors, err := c.receive()
	closeAll(descriptors)
	if err != nil {
		return newcomer, nil, err
	}
	if err := m.check(hello, h.self.Cluster); err != nil {
		return newcomer, nil, err
	}
	m.From.PID = pid
	given, err = h.host.Offer()
	return m.From, given, err
}

// check refuses what is not the kind of message that opens a conversation, of this version of the protocol and of the
// same cluster.
func (m *message) check(want kind, cluster string) error {
	switch {
	case m.Kind == refusal:
		return &RefusedError{Why: m.Why}
	case m.Kind != want:
		return fmt.Errorf("%q came instead of %q", m.Kind, want)
	case m.Protocol != protocol:
		return fmt.Errorf("version %s speaks protocol %d of takeovers, the other process protocol %d: restart instead", m.From.Version,
			m.Protocol, protocol)
	case m.From.Cluster != cluster:
		return fmt.Errorf("the one process is of cluster %q, the other of %q", m.From.Cluster, cluster)
	}
	return nil
}

// offer hands over copies of the sockets, and connections to the processes that drain.
func (h *Holder) offer(c conn, newcomer Identity, given []sockets.Given) (*link, error) {
	m := message{Kind: offer, Protocol: protocol, From: h.self}
	var descriptors []int
	defer func() { closeAll(descriptors) }()
	for _, g := range given {
		fd, err := duplicate(g.Listener)
		if err != nil {
			return nil, err
		}
		descriptors, m.Ours = append(descriptors, fd), append(m.Ours, g.Ours)
	}
	ends, peers := h.mesh.introduce(newcomer)
	descriptors, m.Siblings = append(descriptors, ends...), peers
	if err := c.send(m, descriptors...); err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	return h.mesh.join(c, newcomer), nil
}

// errGone says that the new process ended before it had taken over: this one goes on as if nothing had been asked.
var errGone = errors.New("the new process has gone; this one goes on")

// steps follows the new process until it serves or is gone.
func (h *Holder) steps(ctx context.Context, l *link) (done bool, err error) {
	ready := false
	defer func() {
		if ready && !done {
			h.host.Withdraw()
		}
	}()
	for {
		var m message
		open := true
		select {
		case m, open = <-l.steps:
		case <-ctx.Done():
			_ = l.Close() // it may go on alone
			return false, context.Cause(ctx)
		}
		switch {
		case !open:
			return false, errGone
		case m.Kind == prepare && !ready:
			h.host.Prepare(ctx)
			ready = true
			m = message{Kind: prepared}
		case m.Kind == serving && ready:
			_ = h.listener.Close() // the new process takes the path next
			h.host.Yield()
			done = true
			m = message{Kind: yielded}
		default:
			_ = l.Close() // what it means can't be known
			return false, fmt.Errorf("%q came out of order", m.Kind)
		}
		if err := l.tell(m); err != nil && !done {
			_ = l.Close() // as above
			return false, err
		}
		if done {
			return true, nil
		}
	}
}
