package netdriver

import (
	"context"
	"net"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

// Serve runs the session of an accepted connection until it ends. id is what the client will know as its process id;
// entry is shared by the sessions of a listener; early is what another driver has read of the connection. The end of ctx
// interrupts a login only; see Shutdown and Kill.
func (d *Driver) Serve(ctx context.Context, conn net.Conn, id uint32, entry *Entry, early Early) {
	c := d.newClient(conn, id, entry)
	c.early, c.waited = early.Read, early.Waited
	if early.Remote.IsValid() {
		c.remote, c.introduced = net.TCPAddrFromAddrPort(early.Remote), true
	}
	d.mu.Lock()
	d.clients[id] = c
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.clients, id)
	}()
	c.run(ctx)
}

// all returns the clients there are.
func (d *Driver) all() []*Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*Client, 0, len(d.clients))
	for _, c := range d.clients {
		all = append(all, c)
	}
	return all
}

func (d *Driver) client(id uint32) *Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clients[id]
}

// ViewChanged lets every session that waits or has a server look at the newest view.
func (d *Driver) ViewChanged() {
	for _, c := range d.all() {
		c.viewChanged()
	}
}

// Tick tells every session about once a second what time it is, until ctx ends.
func (d *Driver) Tick(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, c := range d.all() {
			c.tick()
		}
	}
}

func (c *Client) tick() {
	c.mu.Lock()
	defer c.unlock()
	if c.loggedIn {
		c.tell(c.driver.cfg.Now(), session.Event{Kind: session.Tick})
	}
}

// Shutdown ends each session when it has no transaction open; failure is what the clients are told.
func (d *Driver) Shutdown(failure session.Failure) {
	for _, c := range d.all() {
		c.end(session.Shutdown, failure)
	}
}

// Kill ends all sessions now.
func (d *Driver) Kill(failure session.Failure) {
	for _, c := range d.all() {
		c.end(session.Kill, failure)
	}
}

// KillClient ends one session now; false means that there is none.
func (d *Driver) KillClient(id uint32, failure session.Failure) bool {
	c := d.client(id)
	if c != nil {
		c.end(session.Kill, failure)
	}
	return c != nil
}

// CancelRequested carries out a CancelRequest with the client's key.
func (d *Driver) CancelRequested(id uint32) {
	if c := d.client(id); c != nil {
		c.cancelRequested()
	}
}

// Sessions calls yield for each session, with the address of its client.
func (d *Driver) Sessions(yield func(id uint32, client string, info session.Info)) {
	for _, c := range d.all() {
		yield(c.ID, c.remoteAddr(), c.info())
	}
}

// Lines calls yield for each session, with what is known of its client's connection.
func (d *Driver) Lines(yield func(id uint32, line pool.Line)) {
	for _, c := range d.all() {
		yield(c.ID, c.line())
	}
}

func (c *Client) line() pool.Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := pool.NewLine(c.conn.LocalAddr(), c.tls())
	l.Replication = c.request.ReplicationWord()
	if l.Local == "unix" {
		_, l.ProcessID = peerOf(c.conn)
	}
	return l
}

// IdleOnPrimary counts the sessions that keep a primary connection without an open turn or transaction.
func (d *Driver) IdleOnPrimary() int {
	idle := 0
	for _, c := range d.all() {
		if attached, open := c.drain(); attached && !open {
			idle++
		}
	}
	return idle
}

// Counts sums what the driver has seen.
func (d *Driver) Counts() session.Counts {
	n := &d.counters
	return session.Counts{
		FromClients: n.fromClients.Load(), FromServers: n.fromServers.Load(), PrimaryTurns: n.primaryTurns.Load(),
		StandbyTurns: n.standbyTurns.Load(), LoginFailures: n.loginFailures.Load(),
	}
}
