package netdriver

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Client is one client connection with its session. Other goroutines may call any of its methods but run.
type Client struct {
	ID     uint32 // what the client knows as its process id
	Target router.Target

	driver *Driver
	entry  *Entry
	remote net.Addr // changed by a PROXY header during login only, under mu
	conn   net.Conn // changed to TLS during login only, under mu
	in     *input
	tasks  sync.WaitGroup // flushers

	mu       sync.Mutex
	resumed  *sync.Cond // reading goes on, or the session has ended
	session  *session.Session
	actions  *session.Actions // borrowed while mu is held and there is something to do
	inner    session.Event    // for events that arise while actions are carried out
	frame    session.Event    // for frames
	out      *sender          // toward the client
	server   *server          // attached
	stream   *stream          // a replication connection, instead of a session's life
	stopped  [2]bool          // reading of a side
	ticket   *pool.Ticket
	waiting  bool // ticket is in a queue
	deferred []grant
	bytes    int64 // of client frames since the last server
	request  *session.AuthRequest
	database string
	user     string
	timer    *time.Timer
	armed    replication.Instant
	// Three of the reading goroutine's: startup packets read, what another driver has read already, and whether a load
	// balancer's header was in that.
	asked      int
	early      []byte
	waited     time.Duration // of the time for logins, with another driver
	introduced bool
	loggedIn   bool
	console    chan struct{} // nil unless the client talks to the console: its CancelRequests
	closing    bool          // Close was said: what the client sends is dropped
	ended      bool          // nothing reaches the session any more
}

// grant is a server to be delivered to another session once no lock is held.
type grant struct {
	ticket *pool.Ticket
	server *pool.Server
}

func (d *Driver) newClient(conn net.Conn, id uint32, entry *Entry) *Client {
	c := &Client{
		ID: id, Target: entry.Session.Target, driver: d, entry: entry, conn: conn, remote: conn.RemoteAddr(),
		in: newInput(conn, &d.buffers, true), out: newSender(conn), session: session.New(entry.Session),
	}
	c.resumed = sync.NewCond(&c.mu)
	c.ticket = c.newTicket()
	return c
}

// run serves the connection until it ends.
func (c *Client) run(ctx context.Context) {
	defer c.finish()
	if !c.login(ctx) {
		c.linger()
		return
	}
	if c.stream != nil {
		c.stream.run(ctx)
		return
	}
	if cancels := c.console; cancels != nil { // no longer changed; the end of the session ends the connection
		c.driver.hooks.Console(context.WithoutCancel(ctx), c.whole(), c.user, cancels)
		return
	}
	for early := c.in.start < c.in.end; ; early = false {
		if !early {
			if err := c.in.fill(); err != nil {
				return
			}
		}
		c.driver.counters.fromClients.Add(int64(c.in.n))
		if !c.frames() {
			return
		}
	}
}

// linger reads and drops until the client has closed, so that the last words are not destroyed by a reset; the deadline
// that beginClose has set bounds it.
func (c *Client) linger() {
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	for closing {
		if err := c.in.fill(); err != nil {
			return
		}
		c.in.drop()
	}
}

// frames hands what was read to the session; false ends the connection.
func (c *Client) frames() bool {
	c.mu.Lock()
	defer c.unlock()
	now := c.driver.cfg.Now()
	for {
		if !c.mayRead(session.Client, &now) {
			return false
		}
		if c.closing {
			c.in.drop()
			return true
		}
		p, ok, err := c.in.next()
		if err != nil {
			c.violation(now, err)
			return true
		}
		if !ok {
			c.settle(now)
			if !c.waiting {
				c.bytes = 0
			}
			return true
		}
		c.bytes += int64(len(p.Bytes))
		c.frame = session.Event{
			Kind: session.Frame, Side: session.Client,
			Type: p.Type, Length: p.Length, Bytes: p.Bytes, First: p.First, Last: p.Last,
		}
		c.session.Handle(now, &c.frame, c.acting())
		if c.actions.Control() {
			c.settle(now)
			now = c.driver.cfg.Now()
		}
	}
}

// mayRead waits while the session has stopped reading of the side; false when the session has ended. After a wait it
// reads the clock again: what was allowed before may not be any more.
func (c *Client) mayRead(side session.Side, now *replication.Instant) bool {
	if !c.stopped[side] {
		return !c.ended
	}
	for c.stopped[side] && !c.ended && !c.closing {
		c.pause()
	}
	*now = c.driver.cfg.Now()
	return !c.ended
}

// pause waits for resumed, with mu released and nothing left undelivered.
func (c *Client) pause() {
	if len(c.deferred) > 0 {
		c.unlock()
		c.mu.Lock()
		return
	}
	c.resumed.Wait()
}

// violation ends the session of a client whose bytes can't be followed.
func (c *Client) violation(now replication.Instant, err error) {
	c.in.drop()
	c.tell(now, session.Event{Kind: session.Kill, Failure: session.Failure{SQLSTATE: "08P01", Message: err.Error()}})
}

// tell gives the session an event and carries out what it says. Called with mu held.
func (c *Client) tell(now replication.Instant, ev session.Event) {
	if c.ended {
		return
	}
	c.inner = ev
	c.session.Handle(now, &c.inner, c.acting())
	c.settle(now)
}

// acting returns the Actions to fill. Called with mu held; unlock gives them back.
func (c *Client) acting() *session.Actions {
	if c.actions == nil {
		c.actions = c.driver.actions.Get().(*session.Actions)
	}
	return c.actions
}

// unlock releases mu and then delivers the servers that were given back under it: no two sessions are ever locked at the
// same time by one goroutine.
func (c *Client) unlock() {
	grants := c.deferred
	c.deferred = nil
	if c.actions != nil { // empty: every way here goes through settle
		c.driver.actions.Put(c.actions)
		c.actions = nil
	}
	c.mu.Unlock()
	for _, g := range grants {
		g.ticket.Waiter.Granted(g.ticket, g.server)
	}
}

// finish tells the session that its client is gone and frees what it held.
func (c *Client) finish() {
	c.mu.Lock()
	now := c.driver.cfg.Now()
	c.tell(now, session.Event{Kind: session.Closed, Side: session.Client})
	for c.server != nil && !c.closing { // it rolls back, and has armed a deadline for that
		c.pause()
	}
	c.ended = true
	if c.server != nil {
		c.detach(false)
	}
	c.withdraw()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.resumed.Broadcast()
	c.unlock()
	_ = c.conn.Close() // whatever it says, the connection is over
	c.tasks.Wait()
	c.in.drop()
	c.in.park()
}

// Granted implements pool.Waiter.
func (c *Client) Granted(t *pool.Ticket, ps *pool.Server) {
	c.mu.Lock()
	if t != c.ticket || !c.waiting || c.ended {
		c.give(ps, true)
		c.unlock()
		return
	}
	if ps.Gone() {
		c.give(ps, false)
		if c.need() {
			c.tell(c.driver.cfg.Now(), c.inner)
		}
		c.unlock()
		return
	}
	if away := ps.Keeper(); away != c.ticket.Keeper {
		c.unlock()
		away.Move(ps, t)
		return
	}
	c.waiting = false
	c.attach(ps)
	c.tell(c.driver.cfg.Now(), c.attached(ps))
	c.unlock()
}

// Refused implements pool.Waiter.
func (c *Client) Refused(t *pool.Ticket, failure session.Failure) {
	c.mu.Lock()
	defer c.unlock()
	if t != c.ticket || !c.waiting || c.ended {
		return
	}
	c.waiting = false
	c.tell(c.driver.cfg.Now(), session.Event{Kind: session.AttachFailed, Failure: failure})
}

// viewChanged lets a session that waits or has a server look at the newest view.
func (c *Client) viewChanged() {
	c.mu.Lock()
	defer c.unlock()
	if c.stream != nil {
		if failure := c.driver.door.Astray(c.stream.server); failure != nil {
			c.stream.end(*failure)
		}
		return
	}
	if c.session.Busy() {
		c.tell(c.driver.cfg.Now(), session.Event{Kind: session.ViewChanged})
	}
}

// end ends the session as the kind of event says; a login is given up at once.
func (c *Client) end(kind session.EventKind, failure session.Failure) {
	c.mu.Lock()
	defer c.unlock()
	if !c.loggedIn {
		_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // a login is given up
		return
	}
	if c.stream != nil {
		c.stream.end(failure)
		return
	}
	c.tell(c.driver.cfg.Now(), session.Event{Kind: kind, Failure: failure})
}

// cancelRequested carries out a CancelRequest with this client's key.
func (c *Client) cancelRequested() {
	c.mu.Lock()
	defer c.unlock()
	switch {
	case c.console != nil:
		select {
		case c.console <- struct{}{}:
		default: // one is enough
		}
	case c.stream != nil:
		c.stream.cancel()
	case c.loggedIn:
		c.tell(c.driver.cfg.Now(), session.Event{Kind: session.CancelRequested})
	}
}

// info describes the session. The facts of its server are a copy of the pointer only: read its fixed fields.
func (c *Client) info() session.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.session.Info()
	if c.stream != nil {
		info.State, info.Pinned, info.Server = session.StateActive, "replication", c.stream.server.Facts
	}
	return info
}

// drain reports whether a primary connection is attached and whether it carries an open turn or transaction.
func (c *Client) drain() (onPrimary, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil || !c.server.pool.Primary() {
		return false, false
	}
	return true, c.session.OpenOnPrimary()
}

// remoteAddr is the client's address as text.
func (c *Client) remoteAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remote.String()
}
