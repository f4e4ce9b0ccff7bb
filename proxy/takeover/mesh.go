package takeover

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Mesh is this process's connections to the others of its proxy: the one that it has taken over from, the one that takes
// over from it, and those that drain still. It is safe for concurrent use.
type Mesh struct {
	deliver func(processID uint32, secret []byte)
	log     *slog.Logger
	tasks   sync.WaitGroup // a reader and a writer of each link

	mu     sync.Mutex
	links  map[*link]struct{}
	closed bool
}

// link is one of them.
type link struct {
	conn
	peer Identity
	// steps are the messages of a takeover. It is closed when the connection has ended.
	steps chan message
	// out are CancelRequests to be passed on; ended is closed when nobody takes them any more.
	out   chan message
	ended chan struct{}
}

// The bounds of a link.
const (
	queuedCancels = 1000            // more are dropped: a CancelRequest promises nothing
	sendTimeout   = 5 * time.Second // for a process that hangs
)

// NewMesh returns a Mesh without links. deliver is told of each CancelRequest that another process has passed on: it is
// for a client of this one, or for nobody here.
func NewMesh(deliver func(processID uint32, secret []byte), log *slog.Logger) *Mesh {
	return &Mesh{deliver: deliver, log: log, links: map[*link]struct{}{}}
}

// Cancel passes a CancelRequest on to all other processes. They compare its whole key with those of their own clients,
// and pass it on to nobody. It does not wait.
func (m *Mesh) Cancel(processID uint32, secret []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.links {
		select {
		case l.out <- message{Kind: cancel, ProcessID: processID, Secret: secret}:
		default: // see queuedCancels
		}
	}
}

// Close ends all links and waits for them.
func (m *Mesh) Close() {
	m.mu.Lock()
	m.closed = true
	for l := range m.links {
		_ = l.Close() // its reader ends
	}
	m.mu.Unlock()
	m.tasks.Wait()
}

// join makes a link of a connection.
func (m *Mesh) join(c conn, peer Identity) *link {
	l := &link{
		conn: c, peer: peer, steps: make(chan message, 1), out: make(chan message, queuedCancels), ended: make(chan struct{}),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = c.Close() // its reader ends at once
	}
	m.links[l] = struct{}{}
	m.tasks.Go(func() { m.read(l) })
	m.tasks.Go(l.write)
	return l
}

// read deals with what the other process says until the connection ends.
func (m *Mesh) read(l *link) {
	defer func() {
		m.mu.Lock()
		delete(m.links, l)
		m.mu.Unlock()
		_ = l.Close() // it has ended
		close(l.ended)
		close(l.steps)
	}()
	for {
		msg, descriptors, err := l.receive()
		if err != nil {
			m.log.Debug("another process of this proxy has gone", "pid", l.peer.PID, "reason", err)
			return
		}
		switch {
		case msg.Kind == cancel:
			m.deliver(msg.ProcessID, msg.Secret)
		case msg.Kind == sibling && len(descriptors) == 1:
			m.adopt(descriptors[0], msg.From)
			continue
		default:
			select {
			case l.steps <- msg:
			default: // it breaks the order of steps
				m.log.Warn("another process of this proxy breaks the protocol", "pid", l.peer.PID, "message", string(msg.Kind))
				closeAll(descriptors)
				return
			}
		}
		closeAll(descriptors)
	}
}

// adopt joins a connection to another process that drains or will serve.
func (m *Mesh) adopt(fd int, peer Identity) {
	c, err := connect(fd)
	if err != nil {
		m.log.Warn("no connection to another process of this proxy: CancelRequests that it gets will be lost", "pid", peer.PID, "error", err)
		return
	}
	m.join(c, peer)
}

// write passes CancelRequests on until the connection ends.
func (l *link) write() {
	for {
		select {
		case msg := <-l.out:
			if err := l.tell(msg); err != nil {
				_ = l.Close() // the reader learns it
				return
			}
		case <-l.ended:
			return
		}
	}
}

// tell sends a message to a process that should read it at once.
func (l *link) tell(m message, descriptors ...int) error {
	if err := l.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send %s: %w", m.Kind, err)
	}
	return l.send(m, descriptors...)
}

// introduce connects each process that this one knows with a new one, whose ends are returned: each process then reaches
// all others, whichever of them ends first.
func (m *Mesh) introduce(newcomer Identity) (descriptors []int, peers []Identity) {
	m.mu.Lock()
	known := make([]*link, 0, len(m.links))
	for l := range m.links {
		known = append(known, l)
	}
	m.mu.Unlock()
	for _, l := range known {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			m.log.Warn("processes of this proxy not connected", "pid", l.peer.PID, "error", err)
			continue
		}
		err = l.tell(message{Kind: sibling, From: newcomer}, ends[0])
		_ = unix.Close(ends[0]) // the other process has a copy
		if err != nil {         // it is ending
			_ = unix.Close(ends[1]) // and nobody is at its other end
			continue
		}
		descriptors, peers = append(descriptors, ends[1]), append(peers, l.peer)
	}
	return descriptors, peers
}

// local is the address of a takeover socket.
func local(path string) *net.UnixAddr { return &net.UnixAddr{Name: path, Net: "unixpacket"} }

// introductions makes links of the connections behind the sockets of an offer.
func (m *Mesh) introductions(descriptors []int, peers []Identity) {
	for i, fd := range descriptors {
		m.adopt(fd, peers[i])
	}
}
