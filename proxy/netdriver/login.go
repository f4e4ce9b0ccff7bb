package netdriver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// Bounds of what a stranger may send.
const (
	maxRequests     = 4       // SSLRequest and GSSENCRequest on one connection
	maxLoginMessage = 8 << 10 // a password message, in bytes
)

// login takes the connection from its first byte to the end of the session's login; false means that it is over. The
// driver reads no byte beyond each message, so nothing of the client's later messages is lost.
func (c *Client) login(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.driver.cfg.LoginTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return false
	}
	packet, ok := c.startup()
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
	c.mu.Lock()
	defer c.unlock()
	c.user, c.database = req.User, req.Database
	c.loggedIn = outcome.OK
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return false
	}
	c.tell(c.driver.cfg.Now(), session.Event{Kind: session.AuthResult, Auth: outcome})
	return outcome.OK
}

// startup answers requests for encryption and returns the StartupMessage.
func (c *Client) startup() (packet []byte, ok bool) {
	for range maxRequests {
		var word [4]byte
		if _, err := io.ReadFull(c.conn, word[:]); err != nil {
			return nil, false // a port check says nothing and is nobody's business
		}
		length := int64(binary.BigEndian.Uint32(word[:]))
		if length < wire.MinStartup || length > wire.MaxStartup {
			return nil, false
		}
		packet := make([]byte, length-4)
		if _, err := io.ReadFull(c.conn, packet); err != nil {
			return nil, false
		}
		switch kind, _ := wire.ParseStartup(packet); kind {
		case wire.StartupSSL, wire.StartupGSSENC:
			if _, err := c.conn.Write([]byte{'N'}); err != nil {
				return nil, false
			}
		case wire.StartupCancel:
			if processID, secret, err := wire.ParseCancel(packet); err == nil {
				c.driver.door.Cancel(processID, secret)
			}
			return nil, false
		default:
			return packet, true
		}
	}
	return nil, false
}

// authenticate runs the login conversation. nil means that the client is gone.
func (c *Client) authenticate(ctx context.Context, req *session.AuthRequest) *session.AuthOutcome {
	if failure := c.driver.door.Check(req); failure != nil {
		return &session.AuthOutcome{Failure: *failure}
	}
	keys, err := c.scram(ctx, req.User)
	switch {
	case err == nil:
		return c.driver.door.Admit(ctx, c, req, keys)
	case errors.Is(err, auth.ErrDenied):
		return refusal("28P01", fmt.Sprintf("password authentication failed for user %q", req.User), "")
	case errors.Is(err, auth.ErrMalformed):
		return refusal("08P01", err.Error(), "")
	case errors.Is(err, auth.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return refusal("57P03", "the password can't be checked now: no server of the cluster answers", "Try again later.")
	default:
		c.driver.log.Debug("login given up", "session", c.ID, "error", err)
		return nil
	}
}

func refusal(sqlstate, message, hint string) *session.AuthOutcome {
	return &session.AuthOutcome{Failure: session.Failure{SQLSTATE: sqlstate, Message: message, Hint: hint}}
}

// scram proves who the client is and returns the keys that its proof revealed.
func (c *Client) scram(ctx context.Context, user string) (auth.Keys, error) {
	exchange, err := c.driver.verify.Begin(ctx, user)
	if err != nil {
		return auth.Keys{}, err
	}
	if err := c.ask(wire.AppendAuthentication(nil, 10, []byte(auth.Mechanism+"\x00\x00"))); err != nil {
		return auth.Keys{}, err
	}
	body, err := c.answer()
	if err != nil {
		return auth.Keys{}, err
	}
	first, err := auth.InitialResponse(body)
	if err != nil {
		return auth.Keys{}, err
	}
	challenge, err := exchange.First(first)
	if err != nil {
		return auth.Keys{}, err
	}
	if err := c.ask(wire.AppendAuthentication(nil, 11, challenge)); err != nil {
		return auth.Keys{}, err
	}
	if body, err = c.answer(); err != nil {
		return auth.Keys{}, err
	}
	final, keys, err := c.driver.verify.Final(ctx, user, exchange, body)
	if err != nil {
		return auth.Keys{}, err
	}
	return keys, c.ask(wire.AppendAuthentication(nil, 12, final))
}

func (c *Client) ask(message []byte) error {
	if _, err := c.conn.Write(message); err != nil {
		return fmt.Errorf("write to client: %w", err)
	}
	return nil
}

// answer reads one password message.
func (c *Client) answer() ([]byte, error) {
	var header [wire.HeaderLen]byte
	if _, err := io.ReadFull(c.conn, header[:]); err != nil {
		return nil, fmt.Errorf("read from client: %w", err)
	}
	length := int64(binary.BigEndian.Uint32(header[1:])) - 4
	if header[0] != 'p' || length < 0 || length > maxLoginMessage {
		return nil, fmt.Errorf("message %q of %d bytes: %w", header[0], length, auth.ErrMalformed)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, fmt.Errorf("read from client: %w", err)
	}
	return body, nil
}
