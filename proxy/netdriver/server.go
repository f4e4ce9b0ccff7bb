package netdriver

import (
	"bytes"
	"errors"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// server is the driver's state of one server connection. Its input belongs to the goroutine that runs it, its output to
// the client that has it attached.
type server struct {
	driver *Driver
	pool   *pool.Server
	conn   net.Conn
	in     *input
	out    *sender
	owner  atomic.Pointer[Client] // changed under the owner's mu; nil while nobody has it
	// leaving is the ticket with which the connection moves to another keeper, or ended.
	leaving atomic.Pointer[pool.Ticket]
}

// Adopt implements pool.Keeper.
func (d *Driver) Adopt(ps *pool.Server, t *pool.Ticket) {
	conn := ps.Conn
	if foreign, ok := conn.(pool.Foreign); ok {
		own, err := foreign.Leave()
		if err != nil { // it has ended on the way, or there are no descriptors
			_ = conn.Close()
			ps.Ended()
			granted(t, ps)
			return
		}
		conn = own
	}
	s := &server{driver: d, pool: ps, conn: conn, in: newInput(conn, &d.buffers, false), out: newSender(conn)}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true) // the default of package net, stated because everything depends on it
	}
	ps.Driver = s
	ps.Rehome(d, conn) // if it is closed already, reading tells
	d.tasks.Go(s.run)
	granted(t, ps)
}

func granted(t *pool.Ticket, ps *pool.Server) {
	if t != nil {
		t.Waiter.Granted(t, ps)
	}
}

// Move implements pool.Keeper: the reader lets go of the connection.
func (d *Driver) Move(ps *pool.Server, t *pool.Ticket) {
	s := ps.Driver.(*server)
	if !s.leaving.CompareAndSwap(nil, t) { // it has ended
		granted(t, ps)
		return
	}
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // if this fails, reading does too
}

// ended marks the end of a reader in leaving.
var ended = new(pool.Ticket)

// run reads the connection until it ends or moves, and hands each message to the session that has it.
func (s *server) run() {
	for {
		if err := s.in.fill(); err != nil {
			if t := s.leaving.Load(); t != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				s.leave(t)
				return
			}
			break
		}
		s.driver.counters.fromServers.Add(int64(s.in.n))
		s.pool.Facts.Meter.Received(s.in.n)
		if !s.frames() {
			break
		}
	}
	_ = s.conn.Close() // whatever it says, the connection is over
	s.pool.Ended()
	s.in.drop()
	s.in.park()
	if t := s.leaving.Swap(ended); t != nil {
		granted(t, s.pool)
	}
	if c := s.owner.Load(); c != nil {
		c.mu.Lock()
		if c.server == s {
			c.detach(false)
			c.tell(s.driver.cfg.Now(), session.Event{Kind: session.Closed, Side: session.Server})
		}
		c.unlock()
	}
}

// leave hands the connection to another keeper. A message that has come in part goes with nobody: the connection is
// useless then, and closed so that the other keeper notices.
func (s *server) leave(t *pool.Ticket) {
	if s.in.start != s.in.end || s.in.cutter.InMessage() || s.conn.SetReadDeadline(time.Time{}) != nil {
		_ = s.conn.Close() // as above
	}
	s.in.drop()
	s.in.park()
	t.Keeper.Adopt(s.pool, t)
}

// frames deals with all that was read; false ends the connection.
func (s *server) frames() bool {
	for {
		c := s.owner.Load()
		if c == nil {
			var ok bool
			if !s.pool.ObserveIdle(func() { ok = s.idle() }) {
				if s.leaving.Load() != nil { // lent to somebody of another keeper, who waits for it
					return true
				}
				runtime.Gosched() // lent, but not yet attached
				continue
			}
			return ok
		}
		c.mu.Lock()
		if c.server != s {
			c.unlock()
			runtime.Gosched() // given back, or about to be attached elsewhere
			continue
		}
		more, ok := c.serverFrames(s)
		c.unlock()
		if s.driver.draining.Load() && s.pool.Primary() {
			s.driver.hooks.Turned()
		}
		if !ok {
			return false
		}
		if !more {
			return true
		}
	}
}

// serverFrames hands what was read from the attached server to the session. more tells that the server was detached
// before everything was dealt with; ok is false when the connection must end. Called with mu held.
func (c *Client) serverFrames(s *server) (more, ok bool) {
	now := c.driver.cfg.Now()
	for {
		if !c.mayRead(session.Server, &now) || c.server != s {
			return true, true
		}
		p, found, err := s.in.next()
		if err != nil {
			c.driver.log.Warn("server breaks the protocol", "session", c.ID, "node", string(s.pool.Facts.Node), "error", err)
			return false, false
		}
		if !found {
			c.settle(now)
			return false, true
		}
		s.count(p)
		c.frame = session.Event{
			Kind: session.Frame, Side: session.Server,
			Type: p.Type, Length: p.Length, Bytes: p.Bytes, First: p.First, Last: p.Last,
		}
		c.session.Handle(now, &c.frame, c.acting())
		if c.actions.Control() {
			c.settle(now)
			if c.server != s {
				return true, true
			}
		}
	}
}

// idle deals with what a server says while nobody has it: changed parameters are kept, and what announces its end will
// be followed by the end. Anything else means that an answer came too late: the connection can't be trusted.
func (s *server) idle() bool {
	for {
		p, ok, err := s.in.next()
		if err != nil {
			return false
		}
		if !ok {
			return true
		}
		if !p.First {
			continue
		}
		switch p.Type {
		case 'S':
			name, rest, ok1 := bytes.Cut(p.Bytes[wire.HeaderLen:], []byte{0})
			value, _, ok2 := bytes.Cut(rest, []byte{0})
			if !p.Last || !ok1 || !ok2 {
				return false
			}
			s.pool.Facts.Observe(string(name), string(value))
		case 'N', 'A', 'E':
		default:
			return false
		}
	}
}

// count keeps the numbers of turns and errors, and shows the pool what was completed.
func (s *server) count(p wire.Piece) {
	switch {
	case !p.First:
	case p.Type == 'Z':
		if s.pool.Primary() {
			s.driver.counters.primaryTurns.Add(1)
		} else {
			s.driver.counters.standbyTurns.Add(1)
		}
	case p.Type == 'C' && p.Last && len(p.Bytes) > wire.HeaderLen:
		s.pool.Completed(p.Bytes[wire.HeaderLen : len(p.Bytes)-1])
	case p.Type == 'E':
		if code := wire.ParseTrouble(p.Bytes[wire.HeaderLen:]).Code; code != nil {
			s.driver.hooks.Error(code)
		}
	}
}
