package login

import (
	"context"
	"crypto/tls"
	"net/netip"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/router"
)

// MaxAnswer bounds the body of one password message, in bytes: drivers refuse longer ones with Malformed.
const MaxAnswer = 8 << 10

// Peer is what a driver knows of a client before the client has said who it is.
type Peer struct {
	Address netip.AddrPort       // zero for a unix socket
	Unix    bool                 // it came through a unix socket
	UID     int                  // of the process at the other end of a unix socket; -1: not known
	TLS     *tls.ConnectionState // nil: clear text
	Binding []byte               // with TLS: the data of tls-server-end-point (RFC 5929, section 4); empty: none
	Target  router.Target        // of the listener
}

// Step is what a driver does next: it writes Send, and then either runs Block, ends the login with Outcome, or, with
// neither, waits for the client's next password message and hands its body to Conversation.Answer.
type Step struct {
	// Send goes to the client first. It is nobody else's.
	Send []byte
	// Block may wait, until ctx ends at the latest: it must not run on a loop. It returns the next Step; until then
	// nothing else may be called on the conversation. The driver may drop the result if the client has left.
	Block func(ctx context.Context) Step
	// Outcome ends the conversation: the driver raises session.AuthResult with it, and the session says the rest.
	Outcome *session.AuthOutcome
}

// Conversation is one login. It is used by one goroutine at a time.
type Conversation struct {
	checker  *Checker
	id       uint32
	peer     Peer
	request  *session.AuthRequest
	policy   *Policy // as it was when the login began
	rule     *hba.Rule
	account  auth.Account           // methods with a password
	exchange *auth.Exchange         // SCRAM
	next     func(body []byte) Step // nil: no password message is awaited
}

// Answer takes the body of a password message, which it does not keep.
func (c *Conversation) Answer(body []byte) Step {
	next := c.next
	c.next = nil
	if next == nil || len(body) > MaxAnswer {
		return c.refuse("08P01", "unexpected password message", "", "")
	}
	return next(body)
}

// refuse ends the conversation.
func (c *Conversation) refuse(sqlstate, message, detail, hint string) Step {
	return c.fail(session.Failure{SQLSTATE: sqlstate, Message: message, Detail: detail, Hint: hint})
}

func (c *Conversation) fail(failure session.Failure) Step {
	c.next = nil
	return Step{Outcome: &session.AuthOutcome{Failure: failure}}
}

// Malformed is the outcome of a login in which the client sent something else than a password message of at most
// MaxAnswer bytes.
func Malformed() *session.AuthOutcome {
	return &session.AuthOutcome{Failure: session.Failure{
		SQLSTATE: "08P01", Message: "expected a password message",
		Detail: "The client sent another message, or one that is too long.",
	}}
}
