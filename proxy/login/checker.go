package login

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/session"
)

// Host is the proxy behind the logins. Its methods are called by many conversations at the same time.
type Host interface {
	// Refuse tells why a login as this is not served, whoever the client is; nil lets it go on.
	Refuse(req *session.AuthRequest) *session.Failure
	// Proved is told what the client's proof revealed.
	Proved(user string, proof auth.Proof)
	// Admit completes the login of a client that is who it says. nil: that can't be done without waiting; see Visit.
	Admit(id uint32, req *session.AuthRequest) *session.AuthOutcome
	// Visit waits until Admit can be done, or says why it can't. It returns when ctx ends.
	Visit(ctx context.Context, peer *Peer, req *session.AuthRequest) *session.Failure
}

// Policy says how clients prove who they are. It is never changed, only replaced.
type Policy struct {
	Rules *hba.Rules // must be set
	Maps  *hba.Maps  // nil: no maps
}

// Checker begins conversations. It is safe for concurrent use.
type Checker struct {
	host      Host
	directory *auth.Directory
	policy    atomic.Pointer[Policy]
}

// NewChecker returns a Checker that asks directory for credentials.
func NewChecker(host Host, directory *auth.Directory, policy Policy) (*Checker, error) {
	if host == nil || directory == nil || policy.Rules == nil {
		return nil, errors.New("login: a dependency is nil")
	}
	k := &Checker{host: host, directory: directory}
	k.policy.Store(&policy)
	return k, nil
}

// SetPolicy replaces the policy for logins that begin from now on.
func (k *Checker) SetPolicy(policy Policy) { k.policy.Store(&policy) }

// Forget makes logins that begin from now on ask for the credentials of their roles: some may have been changed.
func (k *Checker) Forget() { k.directory.ExpireAll() }

// Begin starts the login of the client that has the process id.
func (k *Checker) Begin(id uint32, peer Peer, req *session.AuthRequest) (*Conversation, Step) {
	c := &Conversation{checker: k, id: id, peer: peer, request: req, policy: k.policy.Load()}
	if failure := k.host.Refuse(req); failure != nil {
		return c, c.fail(*failure)
	}
	c.rule = c.policy.Rules.Match(&hba.Client{
		Unix: peer.Unix, TLS: peer.TLS != nil, Address: peer.Address.Addr(), Database: req.Database, User: req.User,
		Replication: req.Replication == "on",
	})
	if c.rule == nil {
		return c, c.refuse("28000", "no rule of the proxy lets this client in", c.whence(),
			"The rules are those of proxy.auth.hba and proxy.auth.hba_file.")
	}
	if failure := c.checkCertificate(); failure != nil {
		return c, c.fail(*failure)
	}
	return c, c.begin()
}

// whence describes the client as rules see it.
func (c *Conversation) whence() string {
	from := "the unix socket"
	if !c.peer.Unix {
		from = c.peer.Address.Addr().Unmap().String()
	}
	how := "without TLS"
	if c.peer.TLS != nil {
		how = "with TLS"
	}
	return fmt.Sprintf("It connects from %s %s as user %q to database %q.", from, how, c.request.User, c.request.Database)
}

// begin starts the rule's method.
func (c *Conversation) begin() Step {
	switch c.rule.Method {
	case hba.Trust, hba.Cert: // the certificate has been checked
		return c.admit(nil)
	case hba.Peer:
		return Step{Block: c.checkPeer}
	case hba.SCRAM, hba.MD5, hba.Password:
		if c.rule.Method == hba.Password && c.peer.TLS == nil && !c.rule.ClearText {
			return c.refuse("28000", "the rule asks for a password in clear text, and the connection has no TLS", c.whence(),
				"Connect with TLS (sslmode=require), or let the rule be for hostnossl if the network is trusted.")
		}
		return c.withAccount(c.ask)
	default: // reject
		// The words at the end are PostgreSQL's: drivers and people look for them.
		encryption := "no encryption"
		if c.peer.TLS != nil {
			encryption = "SSL encryption"
		}
		return c.refuse("28000", "a rule of the proxy rejects this client, "+encryption, c.whence(), "")
	}
}

// withAccount goes on with next once the role's credential is known.
func (c *Conversation) withAccount(next func() Step) Step {
	account, ok := c.checker.directory.Ready(c.request.User)
	if ok {
		c.account = account
		return next()
	}
	return Step{Block: func(ctx context.Context) Step {
		account, err := c.checker.directory.Find(ctx, c.request.User)
		if err != nil {
			return c.refuse("57P03", "the password can't be checked now: no server of the cluster answers", "", "Try again later.")
		}
		c.account = account
		return next()
	}}
}

// admit lets the client in; send is what precedes AuthenticationOk.
func (c *Conversation) admit(send []byte) Step {
	if outcome := c.checker.host.Admit(c.id, c.request); outcome != nil {
		outcome.Before = send
		return Step{Outcome: outcome}
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
