package netdriver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// login takes the connection from its first byte to the end of the session's login; false means that it is over. The
// driver reads no byte beyond each message, so nothing of the client's later messages is lost.
func (c *Client) login(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.driver.cfg.LoginTimeout-c.waited)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return false
	}
	if ctx.Err() != nil { // logins have ended, maybe before this client was there to be told
		return false
	}
	if !c.preamble() {
		return false
	}
	packet, ok := c.startup(ctx)
	if !ok {
		return false
	}
	c.mu.Lock()
	c.tell(c.driver.cfg.Now(), session.Event{Kind: session.Startup, Bytes: packet})
	req := c.request
	c.unlock()
	if req == nil {
		return false // refused; the session has said Close
	}
	outcome := c.authenticate(ctx, req)
	if outcome == nil {
		c.driver.counters.loginFailures.Add(1)
		return false
	}
	if !outcome.OK {
		c.driver.counters.loginFailures.Add(1)
		c.driver.hooks.Error([]byte(outcome.Failure.SQLSTATE))
	}
	var server *pool.Stream
	if outcome.OK && req.Streams() {
		if len(outcome.Before) > 0 { // no session will say it
			if _, err := c.conn.Write(outcome.Before); err != nil {
				return false
			}
		}
		outcome.Before = nil
		server, outcome = c.openStream(ctx, req, outcome)
	}
	return c.begin(ctx, req, outcome, server)
}

// begin begins the session or, with a server of its own, the stream of a client whose login has ended as outcome says. It
// reports whether there is one.
func (c *Client) begin(ctx context.Context, req *session.AuthRequest, outcome *session.AuthOutcome, server *pool.Stream) bool {
	c.mu.Lock()
	defer c.unlock()
	if outcome.OK && ctx.Err() != nil { // a Shutdown may have found it not logged in yet
		if server != nil {
			_ = server.Conn.Close() // it has not been used
			server = nil
		}
		outcome = &session.AuthOutcome{Before: outcome.Before, Failure: session.Failure{
			SQLSTATE: "57P01", Message: "the login was not complete when the proxy shut down, or when its time was over",
		}}
	}
	c.in.preload(c.early)
	c.early = nil
	c.user, c.database = req.User, req.Database
	c.loggedIn = outcome.OK
	if outcome.OK && outcome.Console {
		c.console = make(chan struct{}, 1)
	}
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return false
	}
	if server != nil {
		c.stream = newStream(c, server, outcome)
		return true
	}
	c.tell(c.driver.cfg.Now(), session.Event{Kind: session.AuthResult, Auth: outcome})
	return outcome.OK
}

// authenticate runs the login conversation. nil means that the client is gone.
func (c *Client) authenticate(ctx context.Context, req *session.AuthRequest) *session.AuthOutcome {
	if refused := c.wrongCertificate(req.User); refused != nil {
		return refused
	}
	conversation, step := c.driver.door.Login(c.ID, c.peer(), req)
	for {
		if len(step.Send) > 0 {
			if _, err := c.conn.Write(step.Send); err != nil {
				return nil
			}
		}
		switch {
		case step.Outcome != nil:
			return step.Outcome
		case step.Block != nil:
			step = step.Block(ctx)
		default:
			body, err := c.answer()
			if errors.Is(err, errNoAnswer) {
				return login.Malformed()
			}
			if err != nil {
				c.driver.log.Debug("login given up", "session", c.ID, "error", err)
				return nil
			}
			step = conversation.Answer(body)
		}
	}
}

// peer tells what is known of the client from its connection.
func (c *Client) peer() login.Peer {
	p := login.Peer{UID: -1, Target: c.Target, TLS: c.tls()}
	if conn, ok := c.conn.(*secure.Conn); ok {
		p.Binding = conn.Binding
	}
	switch remote := c.remote.(type) {
	case *net.TCPAddr:
		p.Address = remote.AddrPort()
	case *net.UnixAddr:
		p.Unix = true
		p.UID, _ = peerOf(c.conn)
	}
	return p
}

// errNoAnswer says that the client sent something else than a password message.
var errNoAnswer = errors.New("no password message")

// answer reads one password message.
func (c *Client) answer() ([]byte, error) {
	var header [wire.HeaderLen]byte
	if err := c.readFull(header[:]); err != nil {
		return nil, fmt.Errorf("read from client: %w", err)
	}
	length := int64(binary.BigEndian.Uint32(header[1:])) - 4
	if header[0] != 'p' || length < 0 || length > login.MaxAnswer {
		return nil, fmt.Errorf("message %q of %d bytes: %w", header[0], length, errNoAnswer)
	}
	body := make([]byte, length)
	if err := c.readFull(body); err != nil {
		return nil, fmt.Errorf("read from client: %w", err)
	}
	return body, nil
}
