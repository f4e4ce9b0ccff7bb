package loop

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// server is one server connection of a loop.
type server struct {
	socket
	loop    *loop
	pool    *pool.Server
	conn    *conn
	owner   *client // that has it attached
	cutter  wire.Cutter
	rest    *buffer // read, but not dealt with; nil: nothing
	stopped bool    // reading of the server
	hungUp  bool    // it has ended while reading was stopped: what it said before is still to be read
	ended   bool
}

// conn is a server connection as the pool sees it. It is safe for concurrent use: the pool may end it at any time, which
// the loop notices like any other end. The descriptor is the loop's to close.
type conn struct {
	remote net.Addr

	mu sync.Mutex
	fd int // -1 once it is closed
}

// Close ends the connection; the descriptor stays open until the loop has seen it.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return net.ErrClosed
	}
	return unix.Shutdown(c.fd, unix.SHUT_RDWR)
}

// release closes the descriptor.
func (c *conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		_ = unix.Close(c.fd) // the descriptor is free whatever it says
		c.fd = -1
	}
}

// Leave implements pool.Foreign.
func (c *conn) Leave() (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil, net.ErrClosed
	}
	fd := c.fd
	c.fd = -1
	return netConn(fd, "server")
}

// netConn makes a connection of package net out of a descriptor, which it closes.
func netConn(fd int, name string) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }() // FileConn has its own descriptor
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("leave the loop: %w", err)
	}
	return conn, nil
}

// SyscallConn implements syscall.Conn, so that the pool can look whether the connection is alive.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }

type rawConn struct{ conn *conn }

// Control implements syscall.RawConn.
func (r rawConn) Control(do func(fd uintptr)) error {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.conn.fd < 0 {
		return net.ErrClosed
	}
	do(uintptr(r.conn.fd))
	return nil
}

var errLoopOnly = errors.New("only the loop reads and writes this connection")

// Read implements syscall.RawConn.
func (r rawConn) Read(func(fd uintptr) bool) error { return errLoopOnly }

// Write implements syscall.RawConn.
func (r rawConn) Write(func(fd uintptr) bool) error { return errLoopOnly }

// The rest of net.Conn.

func (c *conn) Read([]byte) (int, error)         { return 0, errLoopOnly }
func (c *conn) Write([]byte) (int, error)        { return 0, errLoopOnly }
func (c *conn) LocalAddr() net.Addr              { return nil }
func (c *conn) RemoteAddr() net.Addr             { return c.remote }
func (c *conn) SetDeadline(time.Time) error      { return errLoopOnly }
func (c *conn) SetReadDeadline(time.Time) error  { return errLoopOnly }
func (c *conn) SetWriteDeadline(time.Time) error { return errLoopOnly }

// Adopt implements pool.Keeper. Any goroutine may call it.
func (l *loop) Adopt(ps *pool.Server, t *pool.Ticket) {
	fd, err := take(ps.Conn)
	if err != nil { // it has ended on the way, or it is none of a loop's
		l.driver.log.Debug("server connection not adopted", "node", string(ps.Facts.Node), "error", err)
		_ = ps.Conn.Close()
		ps.Ended()
		granted(t, ps)
		return
	}
	s := &server{socket: socket{fd: fd}, loop: l, pool: ps, conn: &conn{fd: fd, remote: ps.Conn.RemoteAddr()}}
	s.cutter.Frontend = false
	ps.Driver = s
	ps.Rehome(l, s.conn) // if it is closed already, reading tells
	l.post(func() {
		events := uint32(readable)
		if s.pending != nil { // somebody has it already
			events |= writable
		}
		if s.stopped {
			events &^= readable
		}
		if err := l.watch(&s.socket, s, events); err != nil {
			l.driver.log.Error("server connection can't be watched", "error", err)
			s.end()
		}
		granted(t, ps)
	})
}

func granted(t *pool.Ticket, ps *pool.Server) {
	if t != nil {
		t.Waiter.Granted(t, ps)
	}
}

// take gets the descriptor out of a connection, which is then closed but for that.
func take(c net.Conn) (int, error) {
	if foreign, ok := c.(pool.Foreign); ok {
		own, err := foreign.Leave()
		if err != nil {
			return 0, err
		}
		c = own
	}
	var sc syscall.Conn
	switch c := c.(type) {
	case *net.TCPConn:
		sc = c
	case *net.UnixConn:
		sc = c
	default:
		return 0, fmt.Errorf("a %T can't be served by a loop", c)
	}
	fd, err := duplicate(sc)
	_ = c.Close() // the connection lives on with the other descriptor, if there is one
	if err != nil {
		return 0, err
	}
	return fd, nil
}

// duplicate returns a descriptor of one's own; it does not block, like that of package net.
func duplicate(sc syscall.Conn) (fd int, err error) {
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(old uintptr) { fd, failed = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

// Move implements pool.Keeper: the loop lets go of the connection. What has come, or has not gone, goes with nobody: such a
// connection ends here, so that the ticket's holder asks for another before it has told this one anything.
func (l *loop) Move(ps *pool.Server, t *pool.Ticket) {
	s := ps.Driver.(*server)
	l.post(func() {
		if s.rest != nil || s.cutter.InMessage() || s.pending != nil {
			s.end()
		}
		if s.ended {
			granted(t, ps)
			return
		}
		s.ended = true
		l.forget(&s.socket, false)
		s.fd = -1
		t.Keeper.Adopt(ps, t)
	})
}

// ready implements handler.
func (s *server) ready(events uint32) {
	l := s.loop
	if events&writable != 0 && l.flush(&s.socket) && s.full {
		s.full = false
		if s.owner != nil {
			s.owner.tell(session.Event{Kind: session.Drained, Side: session.Server})
		}
	}
	if s.ended || events&(readable|over) == 0 {
		return
	}
	if s.stopped {
		if events&over != 0 { // it would be reported again and again
			l.forget(&s.socket, false)
			s.hungUp = true
		}
		return
	}
	kept := 0
	if s.rest != nil {
		kept = copy(l.buffer, s.rest.bytes)
	}
	if kept == len(l.buffer) { // it waits for its owner
		s.goOn()
		return
	}
	n, errno := l.read(s.fd, l.buffer[kept:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
	case errno != 0 || n == 0:
		s.end()
	default:
		l.lap()
		l.counters.fromServers.Add(int64(n))
		s.pool.Facts.Meter.Received(n)
		l.recycle(s.rest)
		s.rest = nil
		s.take(l.buffer[:kept+n], kept+n == len(l.buffer))
	}
}

// goOn deals with what was read before.
func (s *server) goOn() {
	rest := s.rest
	if s.ended || s.stopped || rest == nil {
		return
	}
	s.rest = nil
	s.take(rest.bytes, rest.size() >= readBuffer)
	s.loop.recycle(rest)
}

// take deals with what was read: it is the owner's; what comes while nobody has the server is observed.
func (s *server) take(data []byte, full bool) {
	l := s.loop
	at := 0
	for !s.ended && !s.stopped {
		c := s.owner
		if c == nil && at < len(data) {
			ok := false
			if !s.pool.ObserveIdle(func() { at, ok = s.idle(data, at, full) }) {
				break // lent, but not yet attached: whoever gets it will hear
			}
			if !ok {
				s.end()
			}
			break
		}
		p, n, err := s.cutter.Cut(data[at:], at == 0 && full)
		if err != nil {
			l.driver.log.Warn("server breaks the protocol", "session", c.id, "node", string(s.pool.Facts.Node), "error", err)
			s.end()
			return
		}
		if n == 0 {
			if c != nil {
				c.settle()
			}
			break
		}
		at += n
		s.count(p)
		l.frame = session.Event{
			Kind: session.Frame, Side: session.Server,
			Type: p.Type, Length: p.Length, Bytes: p.Bytes, First: p.First, Last: p.Last,
		}
		c.session.Handle(l.now, &l.frame, l.actions)
		if l.actions.Control() {
			c.settle()
		}
	}
	if !s.ended && at < len(data) {
		s.rest = l.keep(data[at:])
	}
	if l.driver.draining.Load() && s.pool.Primary() {
		l.driver.hooks.Turned()
	}
}

// idle deals with what a server says while nobody has it, from data[at:] on, and returns how far it came: changed
// parameters are kept, and what announces its end will be followed by the end. Anything else means that an answer came
// too late: ok is false, the connection can't be trusted.
func (s *server) idle(data []byte, at int, full bool) (used int, ok bool) {
	for {
		p, n, err := s.cutter.Cut(data[at:], at == 0 && full)
		if err != nil {
			return at, false
		}
		if n == 0 {
			return at, true
		}
		at += n
		if !p.First {
			continue
		}
		switch p.Type {
		case 'S':
			name, rest, ok1 := bytes.Cut(p.Bytes[wire.HeaderLen:], []byte{0})
			value, _, ok2 := bytes.Cut(rest, []byte{0})
			if !p.Last || !ok1 || !ok2 {
				return at, false
			}
			s.pool.Facts.Observe(string(name), string(value))
		case 'N', 'A', 'E':
		default:
			return at, false
		}
	}
}

// count keeps the numbers of turns and errors, and shows the pool what was completed.
func (s *server) count(p wire.Piece) {
	n := &s.loop.counters
	switch {
	case !p.First:
	case p.Type == 'Z' && s.pool.Primary():
		n.primaryTurns.Add(1)
	case p.Type == 'Z':
		n.standbyTurns.Add(1)
	case p.Type == 'C' && p.Last && len(p.Bytes) > wire.HeaderLen:
		s.pool.Completed(p.Bytes[wire.HeaderLen : len(p.Bytes)-1])
	case p.Type == 'E':
		if code := wire.ParseTrouble(p.Bytes[wire.HeaderLen:]).Code; code != nil {
			s.loop.driver.hooks.Error(code)
		}
	}
}

// stop stops reading the server, or goes on.
func (s *server) stop(on bool) {
	if s.stopped == on || s.ended {
		return
	}
	l := s.loop
	s.stopped = on
	if on {
		l.want(&s.socket, s.events&^readable)
		return
	}
	if s.hungUp {
		s.hungUp = false
		if err := l.watch(&s.socket, s, readable); err != nil {
			l.driver.log.Error("server connection can't be watched", "error", err)
			l.deferred = append(l.deferred, s.end)
		}
	}
	l.want(&s.socket, s.events|readable)
	if s.rest != nil {
		l.deferred = append(l.deferred, s.goOn)
	}
}

// end is called when the connection is over.
func (s *server) end() {
	if s.ended {
		return
	}
	l := s.loop
	s.ended, s.broken = true, true
	l.forget(&s.socket, true)
	s.conn.release()
	s.fd = -1
	l.drop(&s.socket)
	l.recycle(s.rest)
	s.rest = nil
	s.pool.Ended()
	if c := s.owner; c != nil {
		c.detach(false)
		c.tell(session.Event{Kind: session.Closed, Side: session.Server})
	}
}
