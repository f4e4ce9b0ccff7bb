package netdriver

import (
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// settle carries out the session's actions, and those that follow from them, until nothing is left to do. Called with
// mu held; it never blocks.
func (c *Client) settle(now replication.Instant) {
	c.acting()
	for {
		if c.server != nil {
			out := c.actions.Output(session.Server)
			c.server.pool.Facts.Meter.Sent(len(out))
			c.send(c.server.out, out, session.Server)
		}
		c.send(c.out, c.actions.Output(session.Client), session.Client)
		more := false
		if c.actions.Control() {
			more = c.control()
		}
		c.actions.Reset()
		if !more && !c.raise() {
			return
		}
		c.session.Handle(now, &c.inner, c.actions)
	}
}

// send writes to one side; what does not go at once is left to a flusher.
func (c *Client) send(s *sender, b []byte, side session.Side) {
	if len(b) == 0 {
		return
	}
	s.write(b)
	if s.broken {
		// The reading goroutine learns of the end by reading; it must not be asleep.
		c.stopped[side] = false
		c.resumed.Broadcast()
		return
	}
	if s.left() && !s.flushing {
		s.flushing = true
		c.tasks.Go(func() { c.flush(s, side) })
	}
}

// control carries out everything but output, in the order that session.Actions states. It reports whether c.inner is the
// event that answers a Need.
func (c *Client) control() (more bool) {
	a := c.actions
	if a.CancelServer && c.server != nil {
		c.cancel(c.server)
	}
	if a.CancelNeed {
		c.withdraw()
	}
	switch a.Detach {
	case session.Release:
		c.detach(true)
	case session.Discard:
		c.discard(a.Reason)
	}
	if a.Need != nil {
		c.ticket.Need, c.ticket.Lost = *a.Need, false
		more = true
	}
	if a.Authenticate != nil {
		c.request = a.Authenticate
	}
	if a.Arm {
		c.arm(a.ArmAt)
	}
	for side, change := range a.Read {
		switch change {
		case session.StopReading:
			c.stopped[side] = true
		case session.ResumeReading:
			c.stopped[side] = false
			c.resumed.Broadcast()
		}
	}
	if a.Close {
		c.beginClose()
	}
	return more && c.need()
}

// cancel stops the server's statement, and tells the session when the signal can't come any more.
func (c *Client) cancel(s *server) {
	c.driver.servers.Cancel(s.pool, func() {
		c.mu.Lock()
		defer c.unlock()
		if c.server == s {
			c.tell(c.driver.cfg.Now(), session.Event{Kind: session.CancelDone})
		}
	})
}

// need asks for a server; it reports whether there is an answer already, in c.inner.
func (c *Client) need() bool {
	c.ticket.Database, c.ticket.User, c.ticket.Bytes = c.database, c.user, c.bytes
	c.ticket.Reset()
	c.waiting = true
	ps, failure := c.driver.servers.Request(c.ticket)
	switch {
	case ps != nil && ps.Keeper() != c.ticket.Keeper:
		ps.Keeper().Move(ps, c.ticket) // which calls Granted
	case ps != nil:
		c.waiting = false
		c.attach(ps)
		c.inner = c.attached(ps)
		return true
	case failure != nil:
		c.waiting = false
		c.inner = session.Event{Kind: session.AttachFailed, Failure: *failure}
		return true
	}
	return false
}

// withdraw ends the open Need. A ticket that could not be taken back is left behind: when it is granted after all, the
// server goes back at once.
func (c *Client) withdraw() {
	if !c.waiting {
		return
	}
	c.waiting = false
	if !c.driver.servers.Withdraw(c.ticket) {
		c.ticket = c.newTicket()
	}
}

func (c *Client) newTicket() *pool.Ticket { return &pool.Ticket{Waiter: c, Keeper: c.driver} }

func (c *Client) attach(ps *pool.Server) {
	s := ps.Driver.(*server)
	c.server = s
	c.stopped[session.Server] = false
	c.bytes = 0
	s.owner.Store(c)
}

func (c *Client) attached(ps *pool.Server) session.Event {
	return session.Event{Kind: session.Attached, Attachment: session.Attachment{
		Server: ps.Facts, Status: c.ticket.Status, Consistency: &c.ticket.Need.Consistency, Lost: c.ticket.Lost,
		Why: c.ticket.Why, Token: c.ticket.Token, Proof: c.ticket.Proof,
	}}
}

// detach gives the server back. Bytes that are still unwritten make it useless to others.
func (c *Client) detach(keep bool) {
	s := c.server
	if s == nil {
		return
	}
	c.server = nil
	s.owner.Store(nil)
	c.stopped[session.Server] = false
	c.resumed.Broadcast()
	keep = keep && len(s.out.pending) == 0 && !s.out.flushing && !s.out.broken && !s.in.cutter.InMessage()
	c.give(s.pool, keep)
}

func (c *Client) discard(reason string) {
	if c.server != nil {
		c.driver.log.Debug("server connection discarded", "session", c.ID, "reason", reason)
	}
	c.detach(false)
}

// give gives a server back and remembers whom to tell that it has it now.
func (c *Client) give(ps *pool.Server, keep bool) {
	if next := c.driver.servers.GiveBack(ps, keep, c.driver.cfg.Now()); next != nil {
		c.deferred = append(c.deferred, grant{next, ps})
	}
}

// raise puts an event into c.inner that the state of the connections calls for, and reports whether there is one.
func (c *Client) raise() bool {
	if c.server != nil && c.server.pool.Gone() {
		c.detach(false)
		c.inner = session.Event{Kind: session.Closed, Side: session.Server}
		return true
	}
	if c.becameFull(c.out) {
		c.inner = session.Event{Kind: session.Full, Side: session.Client}
		return true
	}
	if c.server != nil && c.becameFull(c.server.out) {
		c.inner = session.Event{Kind: session.Full, Side: session.Server}
		return true
	}
	return false
}

func (c *Client) becameFull(s *sender) bool {
	if s.full || len(s.pending) <= c.driver.cfg.HighWater {
		return false
	}
	s.full = true
	return true
}

// flush writes what is pending toward one side, blocking, until nothing is left or the connection ends.
func (c *Client) flush(s *sender, side session.Side) {
	c.mu.Lock()
	for s.left() && !s.broken {
		chunk := s.take()
		c.mu.Unlock()
		_, err := s.conn.Write(chunk)
		c.mu.Lock()
		s.spare = chunk[:0]
		if err != nil {
			s.broken = true
			c.stopped[side] = false
			c.resumed.Broadcast()
		}
		if len(s.pending) == 0 {
			c.drained(s, side)
		}
	}
	s.rest()
	if side == session.Client && c.closing {
		c.closeWrite()
	}
	c.unlock()
}

// drained tells the session that a side takes bytes again, if it was told that it does not.
func (c *Client) drained(s *sender, side session.Side) {
	if !s.full {
		return
	}
	s.full = false
	if side == session.Server && (c.server == nil || c.server.out != s) {
		return
	}
	c.tell(c.driver.cfg.Now(), session.Event{Kind: session.Drained, Side: side})
}

// arm sets the session's timer.
func (c *Client) arm(at replication.Instant) {
	c.armed = at
	if at == 0 {
		if c.timer != nil {
			c.timer.Stop()
		}
		return
	}
	left := max(at.Sub(c.driver.cfg.Now()), 0)
	if c.timer == nil {
		c.timer = time.AfterFunc(left, c.expired)
		return
	}
	c.timer.Reset(left)
}

// expired runs in the timer's goroutine and ends at once. It may be early or stale: the session does not mind.
func (c *Client) expired() {
	c.mu.Lock()
	defer c.unlock()
	if c.armed != 0 {
		c.tell(c.driver.cfg.Now(), session.Event{Kind: session.Deadline})
	}
}

// beginClose lets the last words reach the client, within the linger, and wakes the reading goroutine, which ends the
// connection.
func (c *Client) beginClose() {
	if c.closing {
		return
	}
	c.closing = true
	until := time.Now().Add(c.driver.cfg.Linger)
	_ = c.conn.SetDeadline(until) // an error means that it is closed already
	if !c.out.flushing {
		c.closeWrite()
	}
	c.resumed.Broadcast()
}

// closeWrite says end-of-file to the client and leaves it to close.
func (c *Client) closeWrite() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // as above
		return
	}
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
}
