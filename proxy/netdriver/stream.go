package netdriver

import (
	"context"
	"sync"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// stream joins a client that speaks the replication protocol to a server of its own: every byte is passed on as it is.
// Only the end is the proxy's: between two messages the client can be told why.
type stream struct {
	client  *Client
	server  *pool.Stream
	in      *input // from the server; its goroutine's
	outcome *session.AuthOutcome
	failure chan session.Failure // room for the one that counts: why the proxy ends it
	cancels chan struct{}        // room for one
}

func newStream(c *Client, server *pool.Stream, outcome *session.AuthOutcome) *stream {
	return &stream{
		client: c, server: server, outcome: outcome, in: newInput(server.Conn, &c.driver.buffers, false),
		failure: make(chan session.Failure, 1), cancels: make(chan struct{}, 1),
	}
}

// openStream finds the server of a client that has proved who it is.
func (c *Client) openStream(ctx context.Context, req *session.AuthRequest, admitted *session.AuthOutcome) (*pool.Stream, *session.AuthOutcome) {
	server, failure := c.driver.door.Stream(ctx, c.Target, req)
	if failure != nil {
		c.driver.hooks.Error([]byte(failure.SQLSTATE))
		return nil, &session.AuthOutcome{Failure: *failure}
	}
	return server, admitted
}

// end lets the stream end with the failure; it does not wait. Called with the client's mu held.
func (s *stream) end(failure session.Failure) {
	select {
	case s.failure <- failure:
	default: // it ends already
	}
}

// cancel asks the server to cancel what it does. Called with the client's mu held.
func (s *stream) cancel() {
	select {
	case s.cancels <- struct{}{}:
	default: // one is under way
	}
}

// run serves both directions until the client or the server has left. It is called by the client's reading goroutine.
func (s *stream) run(ctx context.Context) {
	c := s.client
	var tasks sync.WaitGroup
	done := make(chan struct{})
	defer func() {
		_ = s.server.Conn.Close() // it is over, whatever this says
		close(done)
		tasks.Wait()
		s.in.drop()
		s.in.park()
	}()
	greeting := wire.AppendAuthenticationOk(nil)
	for _, p := range s.server.Parameters {
		greeting = wire.AppendParameterStatus(greeting, p.Name, p.Value)
	}
	greeting = wire.AppendBackendKeyData(greeting, s.outcome.ProcessID, s.outcome.Secret)
	if _, err := c.conn.Write(wire.AppendReadyForQuery(greeting, wire.StatusIdle)); err != nil {
		return
	}
	c.mu.Lock()
	if failure := c.driver.door.Astray(s.server); failure != nil { // the view may have changed on the way
		s.end(*failure)
	}
	c.mu.Unlock()
	why := make(chan session.Failure, 1)
	tasks.Go(func() { s.attend(ctx, why, done) })
	tasks.Go(func() { s.toClient(why) })
	for early := c.in.start < c.in.end; ; early = false {
		if !early {
			if err := c.in.fill(); err != nil {
				return
			}
		}
		c.driver.counters.fromClients.Add(int64(c.in.n))
		// An error is the server's end, which toClient tells; until the client has left, what it sends is dropped.
		_, _ = s.server.Conn.Write((*c.in.buf)[c.in.start:c.in.end])
		c.in.drop()
	}
}

// attend carries out cancels and the end by the proxy. It ends with done.
func (s *stream) attend(ctx context.Context, why chan<- session.Failure, done <-chan struct{}) {
	for {
		select {
		case <-s.cancels:
			ctx, stop := context.WithTimeout(ctx, s.client.driver.cfg.LoginTimeout)
			if err := s.server.Cancel(ctx); err != nil {
				s.client.driver.log.Warn("cancel request not delivered", "session", s.client.ID, "error", err)
			}
			stop()
		case failure := <-s.failure:
			why <- failure
			until := time.Now().Add(s.client.driver.cfg.Linger)
			_ = s.client.conn.SetDeadline(until)           // an error means that it is closed already
			_ = s.server.Conn.SetDeadline(time.Unix(1, 0)) // as above; both directions notice
			<-done
			return
		case <-done:
			return
		}
	}
}

// toClient passes on what the server says, whole messages at a time where they fit, until it or the client has left. It
// ends with the server's connection.
func (s *stream) toClient(why <-chan session.Failure) {
	c := s.client
	var err error
	for err == nil {
		if err = s.in.fill(); err != nil {
			break
		}
		c.driver.counters.fromServers.Add(int64(s.in.n))
		from, ok := s.in.start, true
		for ok && err == nil {
			_, ok, err = s.in.next()
		}
		if s.in.start > from {
			if _, wrote := c.conn.Write((*s.in.buf)[from:s.in.start]); wrote != nil {
				err = wrote
			}
		}
	}
	select {
	case failure := <-why:
		c.driver.hooks.Error([]byte(failure.SQLSTATE))
		if !s.in.cutter.InMessage() { // else an error can't be told
			_, _ = c.conn.Write(session.Fatal(failure)) // the connection ends either way
		}
	default:
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(c.driver.cfg.Linger)) // as in linger
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // as above
	}
}
