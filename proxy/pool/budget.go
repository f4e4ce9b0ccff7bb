package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Budget is the server connections of one (node, database, user) in one role and, for a primary, one epoch: how many
// may be open, which are idle, and who waits. It is closed for good when the view gives the node another role or epoch;
// a new Budget then takes its place in the Set.
type Budget struct {
	set    *Set
	key    Key
	at     Address
	role   replication.Role
	epoch  replication.Epoch // primaries: what their servers are stamped with
	node   *node
	limits Limits
	meter  *session.Meter // of all budgets with this key and role
	// definitions are those of the database, wherever it is asked.
	definitions *session.Definitions
	ctx         context.Context // ends when the budget is closed: for its own goroutines
	stop        context.CancelCauseFunc

	mu      sync.Mutex
	open    int       // connections open or being opened
	dialing int       // of those, being opened
	used    int       // of those, lent to sessions
	shelf   []*Server // idle, last in first out: PostgreSQL keeps few backends hot
	all     map[*Server]struct{}
	waiting queue
	held    bool // the view lets no session have a server of this (primary) budget now
	paused  bool // by an administrator: nobody gets a server, and those that are free are closed
	closed  bool
	// generation rises with each Reconnect and recycle: servers older than oldest are closed when they are given back.
	generation, oldest uint32
	recycling          recycling
	failing            bool // the last attempt to open a connection failed, and that was logged
	inLine             bool // for room on the node; changed with mu and the node's mu held
	// reserving: a goroutine waits until the first in the queue may have a reserve connection.
	reserving bool
	// PostgreSQL has refused a connection for want of its own: no more than shrunk until then.
	shrunk      int
	shrunkUntil replication.Instant
	warmAt      replication.Instant // nothing is opened without a waiting session before
}

// shrinkFor is how long a pool that met PostgreSQL's own limit opens nothing more.
const shrinkFor = 5 * time.Second

// errClosed is the cause with which a closed budget's goroutines end.
var errClosed = errors.New("server connections are fenced by a newer view")

// outcome says what became of an attempt to acquire.
type outcome uint8

const (
	acquired outcome = iota
	queued
	refused // the budget is held or closed, or the ticket withdrawn: choose again
)

// acquire lends an idle server or queues the ticket.
func (b *Budget) acquire(t *Ticket, now replication.Instant) (*Server, outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.held || b.paused {
		return nil, refused
	}
	if b.waiting.length == 0 {
		if s := b.takeIdle(t, now); s != nil {
			b.lend(s)
			return s, acquired
		}
	}
	// home is set before withdrawn is read, and Withdraw does it the other way round: one of the two sees the other.
	t.home.Store(b)
	if t.withdrawn.Load() {
		t.home.Store(nil)
		return nil, refused
	}
	t.queued = now
	b.waiting.push(t)
	b.fill()
	return nil, queued
}

// withdraw takes the ticket out of the queue; false means that it has left it already.
func (b *Budget) withdraw(t *Ticket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.home.Load() != b {
		return false
	}
	b.waiting.remove(t)
	b.restate()
	return true
}

// takeIdle takes the idle server that suits the ticket best and may still be reused. Called with mu held.
func (b *Budget) takeIdle(t *Ticket, now replication.Instant) *Server {
	for len(b.shelf) > 0 {
		s := b.shelf[b.best(t)]
		b.unshelve(s)
		if b.fresh(s, now) && (now.Sub(s.idleSince) < b.set.cfg.CheckDelay || seemsAlive(s.Conn)) {
			return s
		}
		b.drop(s)
	}
	return nil
}

// best finds the place on the shelf of the server that suits the ticket: the one that it asks for, or else the hottest one
// of its keeper, if possible one where no session has its place in a sequence. Called with mu held, while something is
// there.
func (b *Budget) best(t *Ticket) int {
	if t.Need.Again != 0 {
		for i, s := range b.shelf {
			if s.Facts.ID == t.Need.Again {
				return i
			}
		}
	}
	top, hottest := len(b.shelf)-1, -1
	for i := top; i >= 0 && (hottest < 0 || top-i < maxSpared); i-- {
		s := b.shelf[i]
		if t.Keeper != nil && s.keeper != t.Keeper {
			continue
		}
		if !s.Facts.Sequenced() {
			return i
		}
		if hottest < 0 {
			hottest = i
		}
	}
	if hottest < 0 {
		return top
	}
	return hottest
}

// maxSpared bounds how many servers are passed over for the sake of sequences.
const maxSpared = 16

// fresh reports whether the server may be lent (again). Called with mu held.
func (b *Budget) fresh(s *Server, now replication.Instant) bool {
	return !s.Gone() && !s.tainted && now < s.expires && !b.paused && s.generation >= b.oldest
}

// lend marks the server as used. Called with mu held.
func (b *Budget) lend(s *Server) {
	s.state = serverUsed
	s.loan++
	b.used++
	b.node.load.Add(1)
}

// drop closes the connection; its keeper then ends it and the server is removed. Called with mu held.
func (b *Budget) drop(s *Server) {
	s.state = serverGone
	s.shutDown()
}

// giveBack ends a loan. keep says whether the connection may serve others. The returned ticket, if any, now has the
// server: the caller must deliver both once it holds no lock.
func (b *Budget) giveBack(s *Server, keep bool, now replication.Instant) *Ticket {
	b.mu.Lock()
	if s.state != serverUsed {
		b.mu.Unlock()
		return nil
	}
	b.used--
	b.node.load.Add(-1)
	notify := b.held && b.role == replication.RolePrimary
	var next *Ticket
	switch {
	case !keep:
		b.drop(s)
	case s.cancelling:
		s.state = serverParked
	default:
		next = b.restore(s, now)
	}
	altered, roles := s.altered, s.roles
	s.altered, s.roles = false, false
	b.mu.Unlock()
	if notify {
		b.set.cfg.Changed()
	}
	b.set.changed(altered, roles) // its transaction has ended by now, if it had one
	return next
}

// restore makes the server available again, unless it may not be used again or another pool needs its room more. Called
// with mu held.
func (b *Budget) restore(s *Server, now replication.Instant) *Ticket {
	if !b.closed && b.spare(s, now) {
		return nil
	}
	if b.closed || !b.fresh(s, now) || b.node.hungry.Load() > 0 && b.node.gives(b, b.waiting.oldest(), now) {
		b.drop(s)
		return nil
	}
	return b.reuse(s, now)
}

// reuse lends the server to the first in the queue or puts it on the shelf. Called with mu held.
func (b *Budget) reuse(s *Server, now replication.Instant) *Ticket {
	if !b.held {
		if t := b.waiting.pop(); t != nil {
			b.lend(s)
			b.restate()
			return t
		}
	}
	s.state = serverIdle
	s.idleSince = now
	b.shelf = append(b.shelf, s)
	return nil
}

// fill opens connections as long as more sessions wait than are being served by those under way. Called with mu held.
func (b *Budget) fill() {
	for b.wants() && b.enter(false) {
	}
	b.awaitReserve()
}

// wants reports whether another connection should be opened. Called with mu held.
func (b *Budget) wants() bool {
	return !b.closed && !b.paused && b.dialing < b.waiting.length && b.open < b.ceiling()
}

// ceiling is how many connections there may be now. Called with mu held.
func (b *Budget) ceiling() int {
	most := b.limits.Max
	if b.limits.Reserve == 0 && b.shrunkUntil == 0 {
		return most
	}
	now := b.set.now()
	if head := b.waiting.head; head != nil && now.Sub(head.queued) >= b.set.cfg.ReserveTimeout {
		most += b.limits.Reserve
	}
	if now < b.shrunkUntil {
		most = min(most, b.shrunk)
	}
	return most
}

// enter begins to open a connection if there is room for it on the node, else b is in line. Called with mu held.
func (b *Budget) enter(steward bool) bool {
	was := b.inLine
	if !b.node.enter(b, b.waiting.at(b.dialing).Need.Ticket, steward) {
		if !was {
			b.set.wake()
		}
		return false
	}
	b.begin()
	return true
}

// begin opens a connection for which there is room. Called with mu held.
func (b *Budget) begin() {
	b.open++
	b.dialing++
	b.set.tasks.Go(b.serve)
}

// serveClaim opens the connection for which b is in line, if there is room now.
func (b *Budget) serveClaim() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wants() {
		b.node.leave(b)
		return false
	}
	if !b.enter(true) {
		return false
	}
	b.fill()
	return true
}

// restate tells the node when the queue has changed. Called with mu held.
func (b *Budget) restate() {
	if !b.inLine {
		return
	}
	if b.wants() {
		b.fill()
		return
	}
	b.node.leave(b)
	b.set.wake() // those behind it
}

// awaitReserve looks at the queue again once its head has waited long enough for a reserve connection. Called with mu
// held.
func (b *Budget) awaitReserve() {
	head := b.waiting.head
	if b.reserving || b.closed || head == nil || b.open < b.limits.Max || b.open >= b.limits.Max+b.limits.Reserve {
		return
	}
	left := head.queued.Add(b.set.cfg.ReserveTimeout).Sub(b.set.now())
	if left <= 0 {
		return // there is no room on the node, or PostgreSQL has none
	}
	b.reserving = true
	b.set.tasks.Go(func() { // ends with the time or the budget
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-b.ctx.Done():
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reserving = false
		b.fill()
	})
}

// serve opens one connection, gives it to a keeper, hands it out, and waits until it has ended. It ends with the
// connection, or when nobody waits for one that can't be opened, or when the budget is closed.
func (b *Budget) serve() {
	b.mu.Lock()
	generation := b.generation // where it dials to is decided now
	b.mu.Unlock()
	s := b.connect()
	if s == nil {
		return
	}
	s.generation = generation
	b.keeperOfNext().Adopt(s, nil)
	b.mu.Lock()
	b.dialing--
	b.failing = false
	var next *Ticket
	if b.closed {
		b.drop(s)
	} else {
		b.all[s] = struct{}{}
		if now := b.set.now(); b.fresh(s, now) {
			if s.generation == b.generation {
				b.settle()
			}
			next = b.reuse(s, now)
		} else { // paused or outdated meanwhile
			b.drop(s)
		}
		b.fill() // attempts that failed before have given up their places
	}
	b.mu.Unlock()
	b.set.deliver(next, s)
	<-s.ended
	b.remove(s)
}

// keeperOfNext is where the first in the queue can use a server.
func (b *Budget) keeperOfNext() Keeper {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.waiting.head; first != nil && first.Keeper != nil {
		return first.Keeper
	}
	return b.set.cfg.Keeper
}

// remove forgets a server whose connection has ended.
func (b *Budget) remove(s *Server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.state == serverIdle {
		b.unshelve(s)
	}
	if s.state != serverUsed { // else giveBack will see that it is gone
		s.state = serverGone
	}
	delete(b.all, s)
	b.gone()
	b.probe()
	b.fill()
	b.set.closed.Publish(struct{}{})
}

// gone frees the room of a connection. Called with mu held.
func (b *Budget) gone() {
	b.open--
	if b.node.left(b.key) {
		b.set.wake()
	}
}

// giveUp frees the place of a connection that is being opened if it is not needed any more.
func (b *Budget) giveUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed && (b.dialing <= b.waiting.length || b.open <= b.limits.Min || b.recycling.active && b.dialing == 1) {
		return false
	}
	b.dialing--
	b.gone()
	return true
}

// connect tries until there is a connection. It returns nil, having given up its place, when it may not go on.
func (b *Budget) connect() *Server {
	pause := b.set.cfg.Backoff
	for {
		select {
		case b.node.dials <- struct{}{}:
		case <-b.ctx.Done():
			b.giveUp()
			return nil
		}
		if b.giveUp() {
			<-b.node.dials
			return nil
		}
		secret := b.set.cfg.Secret(b.key.User)
		s, err := b.set.open(b, secret)
		<-b.node.dials
		if err == nil {
			return s
		}
		if !b.failed(err, secret) {
			return nil
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-b.ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, 16*b.set.cfg.Backoff)
	}
}

// failed deals with a connection that could not be opened and reports whether to try again.
//
// A refusal of the role or database itself is everybody's answer if the primary gives it; a standby may only not know
// them yet. When PostgreSQL has no connection left, those who wait are served by the connections that there are. Anything
// else may pass: of several attempts under way one goes on. Those who wait for a standby are sent away to choose another
// node; those who wait for the primary wait on, within the hold timeout of their sessions.
//
// A changed password is refused too, but whoever waits has logged in rightly: if somebody has proved the new password
// meanwhile that is tried at once, and as long as there are connections from before, those serve.
func (b *Budget) failed(err error, secret auth.Secret) (again bool) {
	var refusal *LoginError
	lasting := errors.As(err, &refusal) && refusal.Lasting()
	full := refusal != nil && refusal.SQLSTATE == "53300"
	now := b.set.now()
	b.mu.Lock()
	var turned []*Ticket
	established := b.open - b.dialing
	changed := refusal != nil && refusal.SQLSTATE == codeInvalidPassword
	// Asked with mu held: whoever is in the queue had proved a newer password before it came.
	renewed := changed && !secret.Same(b.set.cfg.Secret(b.key.User))
	if changed && (renewed || established > 0) {
		lasting = false
	}
	var loans []loan
	if changed && !renewed {
		loans = b.forgive(now)
	}
	switch {
	case full && established > 0:
		b.shrunk, b.shrunkUntil = established, now.Add(shrinkFor)
		b.recycling.crowded = b.recycling.active
	case lasting, b.role == replication.RoleStandby && !renewed:
		turned = b.waiting.drain()
	case !b.closed && (b.dialing == 1 && b.waiting.length > 0 || renewed):
		again = true
	}
	if !again {
		b.dialing--
		b.gone()
		b.set.closed.Publish(struct{}{})
	}
	b.restate()
	b.warmAt = now.Add(16 * b.set.cfg.Backoff)
	if lasting {
		b.warmAt = now.Add(refusedFor)
	}
	repeated := b.failing
	b.failing = true
	b.mu.Unlock()
	if full && established == 0 {
		b.set.relieve(b)
	}
	b.set.logFailure(b, err, repeated)
	for _, l := range loans {
		b.set.deliver(l.ticket, l.server)
	}
	for _, t := range turned {
		if lasting && (b.role == replication.RolePrimary || t.Need.Kind == router.Write) { // such a write insists on standbys
			t.Waiter.Refused(t, refusal.Failure)
		} else {
			t.Avoid = b.key.Node
			b.set.cfg.Reroute(t)
		}
	}
	return again
}

// refusedFor is how long a pool whose role or database PostgreSQL refuses opens nothing of its own accord.
const refusedFor = time.Minute

// fence closes the budget. Servers in use are closed too if hard, else when they are given back. The tickets that
// waited are returned: they must be routed again.
func (b *Budget) fence(hard bool) []*Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.restate()
	b.stop(errClosed)
	b.emptyShelf()
	if hard {
		for s := range b.all {
			s.shutDown() // its session learns it from the keeper
		}
	}
	return b.waiting.drain()
}

// hold lets nobody new have a server while on; it returns the tickets that waited.
func (b *Budget) hold(on bool) []*Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = on
	if !on {
		return nil
	}
	tickets := b.waiting.drain()
	b.restate()
	return tickets
}

// tend closes what has been idle for too long or is too old, and opens what is missing.
func (b *Budget) tend(now replication.Instant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if b.recycling.active && now >= b.recycling.until {
		b.settle()
	}
	b.reap(now)
	b.probe()
	b.fill()
	if b.held || b.paused || now < b.warmAt || b.set.waning.Load() {
		return
	}
	for b.open < b.limits.Min && b.node.warm(b) {
		b.begin()
	}
}

// reap closes idle servers: those that may not be lent again, those beyond the maximum, and down to the minimum those
// that have been idle for too long. The bottom of the shelf is the coldest. Called with mu held.
func (b *Budget) reap(now replication.Instant) {
	open := b.open
	keep := b.shelf[:0]
	patience, least := b.set.cfg.IdleTimeout, b.limits.Min
	if b.set.waning.Load() {
		patience, least = min(patience, tendEvery), 0
	}
	for _, s := range b.shelf {
		long := now.Sub(s.idleSince) >= patience && open > least
		if b.fresh(s, now) && !long && open <= b.limits.Max {
			keep = append(keep, s)
			continue
		}
		b.drop(s)
		open--
	}
	clear(b.shelf[len(keep):])
	b.shelf = keep
}

// coldest is the server that has been idle for the longest time, nil when none is idle. Called with mu held.
func (b *Budget) coldest() *Server {
	if len(b.shelf) == 0 {
		return nil
	}
	return b.shelf[0]
}

// unshelve takes an idle server off the shelf, or from those that are spared. Called with mu held.
func (b *Budget) unshelve(s *Server) {
	for _, idle := range []*[]*Server{&b.shelf, &b.recycling.spared} {
		if i := slices.Index(*idle, s); i >= 0 {
			*idle = slices.Delete(*idle, i, i+1)
		}
	}
}

// ObserveIdle runs observe (which may change the server's facts) if the server is idle, and reports whether it was.
func (s *Server) ObserveIdle(observe func()) bool {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	if s.state == serverUsed {
		return false
	}
	observe()
	return true
}

// Ended is called once by the keeper when it has closed the connection, before it tells the session that has it.
func (s *Server) Ended() {
	s.gone.Store(true)
	close(s.ended)
}
