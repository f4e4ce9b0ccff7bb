package login

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/wire"
)

// Codes of Authentication messages.
const (
	askClearText = 3
	askMD5       = 5
	askSASL      = 10
	continueSASL = 11
	finalSASL    = 12
)

// ask asks for the password in the way of the rule. A rule for md5 takes the better way if it can, as in PostgreSQL; so
// do roles that do not exist.
func (c *Conversation) ask() Step {
	switch kind := c.account.Kind; {
	case c.rule.Method == hba.Password:
		c.next = c.clearText
		return Step{Send: wire.AppendAuthentication(nil, askClearText, nil)}
	case c.rule.Method == hba.MD5 && (kind == auth.MD5Credential || kind == auth.PlainCredential):
		var salt [4]byte
		rand.Read(salt[:]) // never fails
		c.next = func(body []byte) Step { return c.md5(body, salt) }
		return Step{Send: wire.AppendAuthentication(nil, askMD5, salt[:])}
	}
	offer := auth.Offer
	var binding []byte
	if c.peer.TLS != nil && len(c.peer.Binding) > 0 {
		offer, binding = auth.OfferPlus, c.peer.Binding
	}
	c.exchange = c.account.Exchange(binding)
	c.next = c.first
	return Step{Send: wire.AppendAuthentication(nil, askSASL, []byte(offer))}
}

// first takes SASLInitialResponse.
func (c *Conversation) first(body []byte) Step {
	mechanism, message, err := auth.InitialResponse(body)
	if err != nil {
		return c.denied(err)
	}
	challenge, err := c.exchange.First(mechanism, message)
	if err != nil {
		return c.denied(err)
	}
	c.next = c.final
	return Step{Send: wire.AppendAuthentication(nil, continueSASL, challenge)}
}

// final takes the client's SCRAM proof: a few hashes, no key derivation.
func (c *Conversation) final(body []byte) Step {
	message, keys, err := c.exchange.Final(body)
	if err != nil {
		return c.denied(err)
	}
	return c.proved(c.account.Proof(keys), wire.AppendAuthentication(nil, finalSASL, message))
}

// md5 takes the answer to AuthenticationMD5Password.
func (c *Conversation) md5(body []byte, salt [4]byte) Step {
	answer := string(body)
	return c.judge(func(context.Context) (auth.Proof, error) { return c.account.CheckMD5([]byte(answer), salt) })
}

// clearText takes a password. Checking it is work of milliseconds.
func (c *Conversation) clearText(body []byte) Step {
	password := append([]byte(nil), body...)
	if len(bytes.TrimRight(password, "\x00")) == 0 {
		return c.refuse("28P01", "empty password returned by client", "", "") // as PostgreSQL says it
	}
	return c.judge(func(ctx context.Context) (auth.Proof, error) {
		return c.checker.directory.CheckPassword(ctx, &c.account, password)
	})
}

// judge checks what can be checked against any credential: if it does not fit one that was cached, the sources are asked
// whether they have a new one.
func (c *Conversation) judge(check func(context.Context) (auth.Proof, error)) Step {
	return Step{Block: func(ctx context.Context) Step {
		proof, err := check(ctx)
		if errors.Is(err, auth.ErrDenied) {
			c.checker.directory.Expire(c.request.User)
			if account, findErr := c.checker.directory.Find(ctx, c.request.User); findErr == nil && !account.Same(&c.account) {
				c.account = account
				proof, err = check(ctx)
			}
		}
		if err != nil {
			return c.denied(err)
		}
		return c.proved(proof, nil)
	}}
}

func (c *Conversation) proved(proof auth.Proof, send []byte) Step {
	c.checker.host.Proved(c.request.User, proof)
	return c.admit(send)
}

// denied ends a conversation that the client has failed.
func (c *Conversation) denied(err error) Step {
	switch {
	case errors.Is(err, auth.ErrDenied):
		// The next login asks for the role's credential anew: its password may have been changed.
		c.checker.directory.Expire(c.request.User)
		return c.refuse("28P01", fmt.Sprintf("password authentication failed for user %q", c.request.User), "", "")
	case errors.Is(err, auth.ErrDowngrade):
		return c.refuse("28000", err.Error(), "The client supports channel binding and believes that the proxy does not, "+
			"but the proxy has offered it.", "Somebody between client and proxy may have changed the offer.")
	case errors.Is(err, auth.ErrMalformed):
		return c.refuse("08P01", err.Error(), "", "")
	}
	return c.refuse("57P03", "the password can't be checked now", "", "Try again later.")
}
