package loop

import (
	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

// settle carries out the session's actions, and those that follow from them, until nothing is left to do. The order is
// that of session.Actions.
func (c *client) settle() {
	l := c.loop
	for {
		if c.server != nil {
			if out := l.actions.Output(session.Server); len(out) > 0 {
				c.server.pool.Facts.Meter.Sent(len(out))
				l.send(&c.server.socket, out)
			}
		}
		out := l.actions.Output(session.Client)
		l.send(&c.socket, out)
		more := false
		if l.actions.Control() {
			more = c.control(len(out) > 0)
		}
		l.actions.Reset()
		if c.stage == stageEnded || !more && !c.raise() {
			return
		}
		c.session.Handle(l.now, &l.inner, l.actions)
	}
}

// control carries out everything but output. It reports whether loop.inner is the event that answers a Need. said tells
// that something was written to the client.
func (c *client) control(said bool) (more bool) {
	l := c.loop
	a := l.actions
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
		if c.ticket == nil {
			c.ticket = l.getTicket(c)
		}
		c.ticket.Need, c.ticket.Lost = *a.Need, false
		more = c.request()
	}
	if a.Authenticate != nil && c.login != nil {
		c.login.request = a.Authenticate
	}
	if a.Arm && c.stage == stageSession {
		l.timers.arm(c, a.ArmAt)
	}
	switch a.Read[session.Client] {
	case session.StopReading:
		c.stop(true)
	case session.ResumeReading:
		c.stop(false)
	}
	if c.server != nil {
		switch a.Read[session.Server] {
		case session.StopReading:
			c.server.stop(true)
		case session.ResumeReading:
			c.server.stop(false)
		}
	}
	if a.Close {
		c.beginClose(said)
	}
	return more
}

// stop stops reading the client, or goes on.
func (c *client) stop(on bool) {
	if c.stopped == on || c.stage == stageEnded {
		return
	}
	l := c.loop
	c.stopped = on
	if on {
		l.want(&c.socket, c.events&^readable)
		return
	}
	l.want(&c.socket, c.events|readable)
	if !c.resuming {
		c.resuming = true
		l.resumed = append(l.resumed, c)
	}
}

// cancel stops the server's statement, and tells the session when the signal can't come any more.
func (c *client) cancel(s *server) {
	c.loop.driver.servers.Cancel(s.pool, func() {
		c.loop.post(func() {
			if c.server == s {
				c.tell(session.Event{Kind: session.CancelDone})
			}
		})
	})
}

// request asks for a server for the ticket; it reports whether there is an answer already, in loop.inner.
func (c *client) request() bool {
	l := c.loop
	t := c.ticket
	t.User, t.Database = c.session.Login()
	t.Bytes, t.Now = c.bytes, l.now
	t.Reset()
	ps, failure := l.driver.servers.Request(t)
	switch {
	case ps != nil && ps.Keeper() != t.Keeper:
		ps.Keeper().Move(ps, t) // which calls Granted
	case ps != nil:
		l.inner = c.attach(ps)
		return true
	case failure != nil:
		c.ticket = nil
		l.putTicket(t)
		l.inner = session.Event{Kind: session.AttachFailed, Failure: *failure}
		return true
	}
	return false
}

// withdraw ends the open Need. A ticket that could not be taken back is left behind: when it is granted after all, the
// server goes back at once.
func (c *client) withdraw() {
	t := c.ticket
	if t == nil {
		return
	}
	c.ticket = nil
	if c.loop.driver.servers.Withdraw(t) {
		c.loop.putTicket(t)
	}
}

// maxTickets bounds the tickets that are kept for reuse.
const maxTickets = 256

// getTicket and putTicket reuse the tickets whose requests have ended: only sessions that wait have one.
func (l *loop) getTicket(c *client) *pool.Ticket {
	n := len(l.tickets)
	if n == 0 {
		return &pool.Ticket{Waiter: c, Keeper: l}
	}
	t := l.tickets[n-1]
	l.tickets = l.tickets[:n-1]
	t.Waiter = c
	return t
}

func (l *loop) putTicket(t *pool.Ticket) {
	if len(l.tickets) < maxTickets {
		t.Waiter = nil
		l.tickets = append(l.tickets, t)
	}
}

// attach gives the server to the client and returns the event that tells its session.
func (c *client) attach(ps *pool.Server) session.Event {
	l := c.loop
	t, s := c.ticket, ps.Driver.(*server)
	c.ticket, c.server, c.bytes = nil, s, 0
	s.owner = c
	if s.rest != nil { // it has said something since it was lent
		l.deferred = append(l.deferred, s.goOn)
	}
	l.attached = t.Need.Consistency
	ev := session.Event{Kind: session.Attached, Attachment: session.Attachment{
		Server: ps.Facts, Status: t.Status, Consistency: &l.attached, Lost: t.Lost,
		Why: t.Why, Token: t.Token, Proof: t.Proof,
	}}
	l.putTicket(t)
	return ev
}

// detach gives the server back. Bytes that are still unwritten make it useless to others.
func (c *client) detach(keep bool) {
	s := c.server
	if s == nil {
		return
	}
	c.server, s.owner = nil, nil
	keep = keep && !s.hungUp
	s.stop(false)
	s.full = false
	keep = keep && s.pending == nil && !s.broken && !s.cutter.InMessage()
	c.loop.giveBack(s.pool, keep)
}

func (c *client) discard(reason string) {
	if c.server != nil {
		c.loop.driver.log.Debug("server connection discarded", "session", c.id, "reason", reason)
	}
	c.detach(false)
}

// giveBack gives a server back; whoever has it now is told once the socket in hand has been dealt with.
func (l *loop) giveBack(ps *pool.Server, keep bool) {
	if next := l.driver.servers.GiveBack(ps, keep, l.now); next != nil {
		l.grants = append(l.grants, grant{next, ps})
	}
}

// raise puts an event into loop.inner that the state of the connections calls for, and reports whether there is one.
func (c *client) raise() bool {
	l := c.loop
	switch {
	case c.server != nil && c.server.pool.Gone():
		c.detach(false)
		l.inner = session.Event{Kind: session.Closed, Side: session.Server}
	case c.broken && !c.gone && c.stage == stageSession:
		c.gone = true
		l.shut(&c.socket)
		l.inner = session.Event{Kind: session.Closed, Side: session.Client}
	case c.becameFull(&c.socket):
		l.inner = session.Event{Kind: session.Full, Side: session.Client}
	case c.server != nil && c.becameFull(&c.server.socket):
		l.inner = session.Event{Kind: session.Full, Side: session.Server}
	default:
		return false
	}
	return true
}

func (c *client) becameFull(s *socket) bool {
	if s.full || s.pending.size() <= c.loop.driver.cfg.HighWater {
		return false
	}
	s.full = true
	return true
}

// beginClose lets the last words reach the client, within the linger. A client that has left, or that said goodbye itself,
// needs none.
func (c *client) beginClose(said bool) {
	l := c.loop
	if c.stage >= stageClosing {
		return
	}
	if c.broken || !said && c.pending == nil {
		c.finish()
		return
	}
	c.stage = stageClosing
	c.withdraw()
	if c.server != nil {
		c.detach(false)
	}
	c.stopped = false
	l.want(&c.socket, c.events|readable)
	if c.pending == nil {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR) // an error means that it is closed already
	}
	l.timers.arm(c, l.now.Add(l.driver.cfg.Linger))
}
