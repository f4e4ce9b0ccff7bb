package loop

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// stage is where a client connection is in its life.
type stage uint8

const (
	stagePreamble stage = iota // the header of a load balancer is awaited
	stageStartup
	stagePassword // a password message is awaited
	stageBlocked  // a goroutine works for the login
	stageSession
	stageClosing // the last words have been said; what the client sends is dropped
	stageEnded
)

// client is one client connection with its session. It implements pool.Waiter, whose methods other goroutines call; all
// else is the loop's. While it is idle it is only what stands here.
type client struct {
	socket
	id       uint32
	timer    int32 // its place among the loop's timers
	deadline replication.Instant
	loop     *loop
	entry    *Entry
	session  *session.Session
	login    *entrance // nil once it has logged in
	server   *server   // attached
	ticket   *pool.Ticket
	rest     *buffer // read, but not dealt with; nil: nothing
	cutter   wire.Cutter
	bytes    int64          // of client frames since the last server
	remote   netip.AddrPort // zero: a unix socket
	stage    stage
	stopped  bool // reading of the client
	resuming bool // it is among loop.resumed
	gone     bool // the client has left: nothing can be told it any more
}

// ready implements handler.
func (c *client) ready(events uint32) {
	l := c.loop
	if events&writable != 0 && !c.writeMore() {
		return
	}
	if events&(readable|over) == 0 {
		return
	}
	switch c.stage {
	case stageSession:
		if c.stopped {
			if events&over != 0 {
				c.left() // or its state would be reported again and again
			}
			return
		}
		data, ok := c.read(l.buffer)
		if !ok {
			return
		}
		c.take(data, len(data) == len(l.buffer))
	case stageClosing:
		if n, errno := l.read(c.fd, l.buffer); errno != unix.EAGAIN && errno != unix.EINTR && (errno != 0 || n == 0) {
			c.finish()
		}
	case stageBlocked:
		if events&over != 0 {
			c.left()
		}
	default:
		c.enter()
	}
}

// writeMore goes on writing; false means that the connection is over.
func (c *client) writeMore() bool {
	l := c.loop
	if !l.flush(&c.socket) {
		return true
	}
	switch {
	case c.broken:
		c.left()
		return false
	case c.stage == stageClosing:
		_ = unix.Shutdown(c.fd, unix.SHUT_WR) // an error means that it is closed already
	case c.full:
		c.full = false
		c.tell(session.Event{Kind: session.Drained, Side: session.Client})
	}
	return c.stage != stageEnded
}

// read reads once, behind what was left over; false when there is nothing to deal with. What it returns lies in buffer.
func (c *client) read(buffer []byte) (data []byte, ok bool) {
	kept := 0
	if c.rest != nil {
		kept = copy(buffer, c.rest.bytes)
		c.loop.recycle(c.rest)
		c.rest = nil
		if kept == len(buffer) {
			return buffer, true
		}
	}
	n, errno := c.loop.read(c.fd, buffer[kept:])
	if errno == 0 && n > 0 {
		c.loop.counters.fromClients.Add(int64(n))
		c.loop.lap()
		return buffer[:kept+n], true
	}
	if kept > 0 {
		c.rest = c.loop.keep(buffer[:kept])
	}
	if errno != unix.EAGAIN && errno != unix.EINTR {
		c.left()
	}
	return nil, false
}

// take hands what was read to the session; full tells that data is all that can be read at a time.
func (c *client) take(data []byte, full bool) {
	l := c.loop
	at := 0
	for !c.stopped && c.stage == stageSession {
		p, n, err := c.cutter.Cut(data[at:], at == 0 && full)
		if err != nil {
			c.tell(session.Event{Kind: session.Kill, Failure: session.Failure{SQLSTATE: "08P01", Message: err.Error()}})
			return
		}
		if n == 0 {
			break
		}
		at += n
		c.bytes += int64(len(p.Bytes))
		l.frame = session.Event{
			Kind: session.Frame, Side: session.Client,
			Type: p.Type, Length: p.Length, Bytes: p.Bytes, First: p.First, Last: p.Last,
		}
		c.session.Handle(l.now, &l.frame, l.actions)
		if l.actions.Control() {
			c.settle()
		}
	}
	c.settle() // before data is moved: the session may have lent it on
	switch {
	case c.stage != stageSession:
		return
	case at < len(data):
		c.rest = l.keep(data[at:])
	}
	if c.ticket == nil {
		c.bytes = 0
	}
}

// goOn deals with what was read before.
func (c *client) goOn() {
	c.resuming = false
	rest := c.rest
	if c.stopped || rest == nil || c.stage != stageSession {
		return
	}
	c.rest = nil
	c.take(rest.bytes, rest.size() >= readBuffer)
	c.loop.recycle(rest)
}

// tell gives the session an event and carries out what it says.
func (c *client) tell(ev session.Event) {
	if c.stage == stageEnded {
		return
	}
	l := c.loop
	l.inner = ev
	c.session.Handle(l.now, &l.inner, l.actions)
	c.settle()
}

// left is called when the client's connection has ended. Its session may still have to roll back on the server.
func (c *client) left() {
	if c.stage == stageEnded || c.gone {
		return
	}
	c.gone, c.broken = true, true
	c.loop.drop(&c.socket)
	c.loop.shut(&c.socket)
	if c.stage != stageSession {
		if c.login != nil {
			c.loop.counters.loginFailures.Add(int64(c.login.begun()))
		}
		c.finish()
		return
	}
	c.tell(session.Event{Kind: session.Closed, Side: session.Client})
}

// end ends the session as the kind of event says; a login is given up at once.
func (c *client) end(kind session.EventKind, failure session.Failure) {
	switch {
	case c.stage < stageSession:
		c.left()
	case c.stage == stageSession:
		c.tell(session.Event{Kind: kind, Failure: failure})
	}
}

// finish frees what the client holds.
func (c *client) finish() {
	if c.stage == stageEnded {
		return
	}
	l := c.loop
	c.stage = stageEnded
	l.timers.arm(c, 0)
	if c.server != nil {
		c.detach(false)
	}
	c.withdraw()
	l.shut(&c.socket)
	l.drop(&c.socket)
	l.recycle(c.rest)
	c.rest, c.login = nil, nil
	delete(l.clients, c.id)
	l.driver.hooks.Leave(c.id)
}

// shut closes a socket.
func (l *loop) shut(s *socket) {
	if s.fd < 0 {
		return
	}
	l.forget(s, true)
	_ = unix.Close(s.fd) // the descriptor is free whatever it says
	s.fd = -1
}

// expired is called when the client's timer has ended.
func (c *client) expired() {
	c.deadline = 0
	switch c.stage {
	case stageSession:
		c.tell(session.Event{Kind: session.Deadline})
	case stageClosing:
		c.finish()
	default:
		c.left()
	}
}

// Granted implements pool.Waiter for other goroutines.
func (c *client) Granted(t *pool.Ticket, ps *pool.Server) {
	c.loop.post(func() { c.granted(t, ps) })
}

// granted takes the server for which the session waits.
func (c *client) granted(t *pool.Ticket, ps *pool.Server) {
	switch {
	case t != c.ticket:
		c.loop.giveBack(ps, true) // the session does not want it any more
	case ps.Gone():
		c.loop.giveBack(ps, false)
		if c.request() {
			c.tell(c.loop.inner)
		}
	case ps.Keeper() != t.Keeper:
		ps.Keeper().Move(ps, t)
	default:
		c.tell(c.attach(ps))
	}
}

// Refused implements pool.Waiter.
func (c *client) Refused(t *pool.Ticket, failure session.Failure) {
	c.loop.post(func() {
		if t == c.ticket {
			c.ticket = nil
			c.loop.putTicket(t)
			c.tell(session.Event{Kind: session.AttachFailed, Failure: failure})
		}
	})
}
