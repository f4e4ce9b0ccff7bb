package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/catalog"
	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// internalPrefix begins the names of walgate's own roles.
const internalPrefix = "walgate_"

// place names a database and a user.
type place struct{ database, user string }

// door lets clients in: it knows the keys that their proofs revealed and what servers report at login. It implements
// netdriver.Door, loop.Door and login.Host.
type door struct {
	checker  *login.Checker
	broker   *broker
	sessions *registry
	rules    rules
	catalogs *catalog.Set
	internal bool // walgate_* may log in
	max      int  // cached logins, and cached proofs
	view     *replication.Feed[replication.View]
	board    *replication.Feed[replication.StatusBoard]
	dialer   pool.Dialer // of replication connections
	users    auth.FileLookup

	console   *console
	logins    tally                                 // by database
	elsewhere func(processID uint32, secret []byte) // Deps.Cancel

	mu         sync.Mutex
	proofs     map[string]auth.Secret
	parameters map[place][]session.Parameter
}

// Login implements netdriver.Door.
func (d *door) Login(id uint32, peer login.Peer, req *session.AuthRequest) (*login.Conversation, login.Step) {
	return d.checker.Begin(id, peer, req)
}

// Foreign implements loop.Door: the console and replication want a connection of package net.
func (d *door) Foreign(req *session.AuthRequest) bool {
	return req.Streams() || d.console.serves(req.Database)
}

// Refuse implements login.Host.
func (d *door) Refuse(req *session.AuthRequest) *session.Failure {
	switch {
	case strings.HasPrefix(req.User, internalPrefix) && !d.internal:
		return &session.Failure{
			SQLSTATE: "28000", Message: fmt.Sprintf("role %q may not log in through the proxy", req.User),
			Detail: "Roles whose names begin with walgate_ are walgate's own.",
		}
	case d.console.serves(req.Database):
		return nil
	}
	return d.console.refuse(req.Database)
}

// Admit implements login.Host.
func (d *door) Admit(id uint32, req *session.AuthRequest) *session.AuthOutcome {
	if d.console.serves(req.Database) {
		return d.admitConsole(id, req)
	}
	at := place{req.Database, req.User}
	rule := d.rules.find(at.database, at.user)
	if failure := d.sessions.room(at, rule); failure != nil {
		return &session.AuthOutcome{Failure: *failure} // before it takes a server's time
	}
	parameters, ok := d.cached(at)
	if !ok && !req.Streams() { // a replication connection has a server of its own to tell it
		return nil
	}
	secret := newSecret(req.Protocol)
	if failure := d.sessions.admit(id, secret, at, rule); failure != nil {
		return &session.AuthOutcome{Failure: *failure}
	}
	d.logins.add(at.database)
	return &session.AuthOutcome{
		OK: true, Parameters: parameters, ProcessID: id, Secret: secret, PoolMode: rule.Mode,
		Catalog: d.catalogs.Database(req.Database), Reads: &rule.Reads,
	}
}

// newSecret makes a cancel key of the length that the protocol has.
func newSecret(protocol uint32) []byte {
	secret := make([]byte, 4)
	if protocol >= wire.Protocol32 {
		secret = make([]byte, 32)
	}
	rand.Read(secret) // never fails
	return secret
}

// admitConsole lets a client into the console, if its user may use it.
func (d *door) admitConsole(id uint32, req *session.AuthRequest) *session.AuthOutcome {
	if failure := d.console.terminal.Refuse(req.User); failure != nil {
		return &session.AuthOutcome{Failure: *failure}
	}
	if req.Replication != "" {
		return &session.AuthOutcome{Failure: session.Failure{
			SQLSTATE: "0A000", Message: "the console has no replication connections",
		}}
	}
	secret := newSecret(req.Protocol)
	d.sessions.admitConsole(id, secret)
	return &session.AuthOutcome{
		OK: true, Parameters: d.console.terminal.Parameters(), ProcessID: id, Secret: secret, Console: true,
	}
}

// Cancel implements netdriver.Door. The key may be of a client of the process that this one has taken over from.
func (d *door) Cancel(processID uint32, secret []byte) {
	if !d.cancelHere(processID, secret) && d.elsewhere != nil {
		d.elsewhere(processID, secret)
	}
}

// cancelHere reports whether the key is one of a client of this process.
func (d *door) cancelHere(processID uint32, secret []byte) bool {
	on := d.sessions.byKey(processID, secret)
	if on != nil {
		on.CancelRequested(processID)
	}
	return on != nil
}

func unavailable(detail string) *session.Failure {
	return &session.Failure{
		SQLSTATE: "57P03", Message: "no server can be reached for this login", Detail: detail + ".",
		Hint: "The cluster may be changing its primary; try again.",
	}
}

// Visit implements login.Host: it borrows a server for a moment, so that PostgreSQL itself says whether this login is
// possible, and its parameters become known.
func (d *door) Visit(ctx context.Context, peer *login.Peer, req *session.AuthRequest) *session.Failure {
	now := d.broker.now()
	v := &visitor{door: d, result: make(chan *session.Failure, 1)}
	t := &pool.Ticket{Database: req.Database, User: req.User, Waiter: v, Need: session.Need{
		Kind: router.Write, Target: router.TargetPrimary, Arrival: now, Ticket: now,
	}}
	if peer.Target == router.TargetReplica {
		t.Need.Kind, t.Need.Target, t.Need.Level = router.Read, router.TargetReplica, router.LevelEventual
	}
	server, failure := d.broker.Request(t)
	switch {
	case server != nil:
		v.Granted(t, server)
	case failure != nil:
		return failure
	}
	select {
	case failure := <-v.result:
		return failure
	case <-ctx.Done():
		d.broker.Withdraw(t) // if it comes all the same, the visitor gives it back
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return unavailable("the login waited until its timeout")
		}
		return &session.Failure{SQLSTATE: "57P01", Message: "the proxy is shutting down"}
	}
}

// visitor is the Waiter of a login.
type visitor struct {
	door   *door
	result chan *session.Failure // room for the one answer
}

// Granted implements pool.Waiter.
func (v *visitor) Granted(_ *pool.Ticket, server *pool.Server) {
	// It may be a connection that was opened before the parameters were forgotten.
	v.door.loggedIn(server.Key(), server.Reported)
	if next := v.door.broker.GiveBack(server, true, v.door.broker.now()); next != nil {
		next.Waiter.Granted(next, server)
	}
	v.result <- nil
}

// Refused implements pool.Waiter.
func (v *visitor) Refused(_ *pool.Ticket, failure session.Failure) { v.result <- &failure }

func (d *door) cached(at place) ([]session.Parameter, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parameters, ok := d.parameters[at]
	return parameters, ok
}

// loggedIn keeps what a server reports at login.
func (d *door) loggedIn(key pool.Key, parameters []session.Parameter) {
	d.mu.Lock()
	defer d.mu.Unlock()
	makeRoom(d.parameters, d.max)
	d.parameters[place{key.Database, key.User}] = parameters
}

// rolesChanged makes logins from now on ask for their roles.
func (d *door) rolesChanged() { d.checker.Forget() }

// refused forgets a login that PostgreSQL itself refuses.
func (d *door) refused(key pool.Key, err error) {
	var refusal *pool.LoginError
	if errors.As(err, &refusal) && refusal.Lasting() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.parameters, place{key.Database, key.User})
	}
}

// Proved implements login.Host.
func (d *door) Proved(user string, proof auth.Proof) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, ok := d.proofs[user]
	if !ok {
		makeRoom(d.proofs, d.max)
	}
	d.proofs[user] = old.With(proof)
}

// secret is what proves the user to a server: what stands in the user file, and what clients have proved.
func (d *door) secret(user string) auth.Secret {
	d.mu.Lock()
	defer d.mu.Unlock()
	secret := d.proofs[user]
	if stored, ok := d.users.Load().Secret(user); ok {
		secret.Password = stored.Password
		if stored.MD5 != "" {
			secret.MD5 = stored.MD5
		}
	}
	return secret
}

// makeRoom removes some entry of a map that has reached its limit.
func makeRoom[K comparable, V any](m map[K]V, limit int) {
	if len(m) < limit {
		return
	}
	for k := range m {
		delete(m, k)
		return
	}
}
