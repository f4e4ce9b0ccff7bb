package netdriver

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

const (
	maxRequests = 5    // what a stranger may ask before its StartupMessage: TLS, GSSAPI encryption
	tlsRecord   = 0x16 // the first byte of TLS; that of a startup packet is 0
)

// startup answers requests for encryption, makes TLS, and returns the StartupMessage. It reads no byte beyond each
// packet: what was sent in clear text behind a request for TLS would be read as part of the handshake.
func (c *Client) startup(ctx context.Context) (packet []byte, ok bool) {
	for first := true; ; first = false {
		packet, direct, ok := c.packet(first)
		switch {
		case !ok:
			return nil, false
		case direct != nil:
			if !c.startTLS(ctx, direct) {
				return nil, false
			}
			continue
		}
		kind, _ := wire.ParseStartup(packet)
		switch {
		case kind == wire.StartupCancel:
			if processID, secret, err := wire.ParseCancel(packet); err == nil {
				c.driver.door.Cancel(processID, secret)
			}
			return nil, false
		case kind == wire.StartupMessage || c.tls() != nil: // inside TLS nothing of that kind is left to ask
			return packet, c.encryptedEnough()
		case !c.encryption(ctx, kind):
			return nil, false
		}
	}
}

// packet reads one startup packet, or the beginning of TLS if that may come now.
func (c *Client) packet(first bool) (packet, direct []byte, ok bool) {
	var word [4]byte
	if err := c.readFull(word[:]); err != nil {
		return nil, nil, false // a port check says nothing and is nobody's business
	}
	if word[0] == tlsRecord && first && c.offersTLS() {
		direct = append(word[:], c.early...)
		c.early = nil
		return nil, direct, true
	}
	length := int64(binary.BigEndian.Uint32(word[:]))
	if length < wire.MinStartup || length > wire.MaxStartup {
		return nil, nil, false
	}
	if c.asked++; c.asked > maxRequests {
		return nil, nil, false
	}
	packet = make([]byte, length-4)
	return packet, nil, c.readFull(packet) == nil
}

// readFull fills b, first with what was read before.
func (c *Client) readFull(b []byte) error {
	n := copy(b, c.early)
	c.early = c.early[n:]
	_, err := io.ReadFull(c.conn, b[n:])
	return err
}

func (c *Client) offersTLS() bool {
	return c.entry.TLS != nil && c.entry.TLS.Offered(c.entry.EncryptionMode())
}

// encryption answers SSLRequest or GSSENCRequest.
func (c *Client) encryption(ctx context.Context, kind wire.StartupKind) bool {
	answer := byte('N')
	if kind == wire.StartupSSL && c.offersTLS() {
		if len(c.early) > 0 || secure.Untimely(c.conn) {
			c.refuse(session.Failure{
				SQLSTATE: "08P01", Message: "received unencrypted data after SSL request",
				Detail: "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
			})
			return false
		}
		answer = 'S'
	}
	if _, err := c.conn.Write([]byte{answer}); err != nil {
		return false
	}
	return answer == 'N' || c.startTLS(ctx, nil)
}

// startTLS makes the handshake; direct is what was read of it already, nil after a request.
func (c *Client) startTLS(ctx context.Context, direct []byte) bool {
	conn, err := c.entry.TLS.Accept(ctx, c.conn, direct, direct != nil)
	if err != nil {
		c.driver.log.Debug("no TLS with a client", "session", c.ID, "client", c.remoteAddr(), "error", err)
	}
	if conn == nil {
		return false
	}
	c.mu.Lock()
	c.conn, c.in, c.out = net.Conn(conn), newInput(conn, &c.driver.buffers, true), newSender(conn)
	c.mu.Unlock()
	if errors.Is(err, secure.ErrNoProtocol) {
		c.refuse(session.Failure{
			SQLSTATE: "08P01", Message: "direct SSL connection without ALPN protocol negotiation",
			Hint: "Name the ALPN protocol postgresql, or ask for TLS with an SSLRequest.",
		})
		return false
	}
	return true
}

// encryptedEnough refuses a login in clear text where TLS is required.
func (c *Client) encryptedEnough() bool {
	if c.entry.EncryptionMode() < secure.Require || c.tls() != nil {
		return true
	}
	c.refuse(session.Failure{
		SQLSTATE: "28000", Message: "TLS is required",
		Detail: "This address takes logins over TLS only (proxy.tls.mode is " + c.entry.EncryptionMode().String() + ").",
		Hint:   "Connect with sslmode=require or a stricter mode.",
	})
	return false
}

// refuse ends a connection before its session has begun.
func (c *Client) refuse(failure session.Failure) {
	c.driver.hooks.Error([]byte(failure.SQLSTATE))
	c.mu.Lock()
	defer c.unlock()
	c.tell(c.driver.cfg.Now(), session.Event{Kind: session.Kill, Failure: failure})
}

// wrongCertificate refuses a client whose certificate was made out to another role, in mode verify-full.
func (c *Client) wrongCertificate(user string) *session.AuthOutcome {
	if c.entry.EncryptionMode() != secure.VerifyFull {
		return nil
	}
	state := c.tls()
	if state != nil && len(state.PeerCertificates) > 0 && state.PeerCertificates[0].Subject.CommonName == user {
		return nil
	}
	return &session.AuthOutcome{Failure: session.Failure{
		SQLSTATE: "28000", Message: fmt.Sprintf("certificate authentication failed for user %q", user),
		Hint: "The common name of the client's certificate must be the name of the role (proxy.tls.mode is verify-full).",
	}}
}

// tls is the state of the client's TLS; nil in clear text. It is called by the reading goroutine.
func (c *Client) tls() *tls.ConnectionState {
	conn, ok := c.conn.(*secure.Conn)
	if !ok {
		return nil
	}
	state := conn.ConnectionState()
	return &state
}
