package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// Host is the proxy behind the logins. Its methods are called by many conversations at the same time.
type Host interface {
	// Refuse tells why a login as this is not served, whoever the client is; nil lets it go on.
	Refuse(req *session.AuthRequest) *session.Failure
	// Proved is told what the client's proof revealed.
	Proved(user string, keys auth.Keys)
	// Admit completes the login of a client that is who it says. nil: that can't be done without waiting; see Visit.
	Admit(id uint32, req *session.AuthRequest) *session.AuthOutcome
	// Visit waits until Admit can be done, or says why it can't. It returns when ctx ends.
	Visit(ctx context.Context, peer *Peer, req *session.AuthRequest) *session.Failure
}

// Checker begins conversations. It is safe for concurrent use.
type Checker struct {
	host      Host
	directory *auth.Directory
}

// NewChecker returns a Checker that asks directory for verifiers.
func NewChecker(host Host, directory *auth.Directory) (*Checker, error) {
	if host == nil || directory == nil {
		return nil, errors.New("login: a dependency is nil")
	}
	return &Checker{host: host, directory: directory}, nil
}

// Begin starts the login of the client that has the process id.
func (k *Checker) Begin(id uint32, peer Peer, req *session.AuthRequest) (*Conversation, Step) {
	c := &Conversation{checker: k, id: id, peer: peer, request: req}
	if failure := k.host.Refuse(req); failure != nil {
		return c, c.fail(*failure)
	}
	if exchange, ok := k.directory.Ready(req.User); ok {
		return c, c.offer(exchange)
	}
	return c, Step{Block: func(ctx context.Context) Step {
		exchange, err := k.directory.Begin(ctx, req.User)
		if err != nil {
			return c.cannotCheck()
		}
		return c.offer(exchange)
	}}
}

// offer asks for a SCRAM exchange.
func (c *Conversation) offer(exchange *auth.Exchange) Step {
	c.next = func(body []byte) Step { return c.first(exchange, body) }
	return Step{Send: wire.AppendAuthentication(nil, 10, []byte(auth.Mechanism+"\x00\x00"))}
}

// first takes SASLInitialResponse.
func (c *Conversation) first(exchange *auth.Exchange, body []byte) Step {
	message, err := auth.InitialResponse(body)
	if err != nil {
		return c.denied(err)
	}
	challenge, err := exchange.First(message)
	if err != nil {
		return c.denied(err)
	}
	c.next = func(body []byte) Step { return c.final(exchange, body) }
	return Step{Send: wire.AppendAuthentication(nil, 11, challenge)}
}

// final takes the client's proof.
func (c *Conversation) final(exchange *auth.Exchange, body []byte) Step {
	final, keys, err := c.checker.directory.Final(c.request.User, exchange, body)
	if err != nil {
		return c.denied(err)
	}
	c.checker.host.Proved(c.request.User, keys)
	return c.admit(wire.AppendAuthentication(nil, 12, final))
}

// admit lets the client in; send is what precedes AuthenticationOk.
func (c *Conversation) admit(send []byte) Step {
	if outcome := c.checker.host.Admit(c.id, c.request); outcome != nil {
		return Step{Send: send, Outcome: outcome}
	}
	return Step{Send: send, Block: func(ctx context.Context) Step {
		if failure := c.checker.host.Visit(ctx, &c.peer, c.request); failure != nil {
			return c.fail(*failure)
		}
		if outcome := c.checker.host.Admit(c.id, c.request); outcome != nil {
			return Step{Outcome: outcome}
		}
		return c.refuse("57P03", "no server can be reached for this login", "The server's parameters are not known.",
			"The cluster may be changing its primary; try again.")
	}}
}

// denied ends a conversation that the client has failed.
func (c *Conversation) denied(err error) Step {
	if errors.Is(err, auth.ErrDenied) {
		return c.refuse("28P01", fmt.Sprintf("password authentication failed for user %q", c.request.User), "", "")
	}
	return c.refuse("08P01", err.Error(), "", "")
}

func (c *Conversation) cannotCheck() Step {
	return c.refuse("57P03", "the password can't be checked now: no server of the cluster answers", "", "Try again later.")
}
