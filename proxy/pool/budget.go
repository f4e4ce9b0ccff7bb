package pool

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Budget is the server connections of one (node, database, user) in one role and, for a primary, one epoch: how many
// may be open, which are idle, and who waits. It is closed for good when the view gives the node another role or epoch;
// a new Budget then takes its place in the Set.
type Budget struct {
	set   *Set
	key   Key
	at    Address
	role  replication.Role
	epoch replication.Epoch // primaries: what their servers are stamped with
	load  *atomic.Int32     // of the node: servers in use
	meter *session.Meter    // of all budgets with this key and role
	ctx   context.Context   // ends when the budget is closed: for its own goroutines
	stop  context.CancelCauseFunc

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
	// generation rises with each Reconnect: servers of older ones are closed when they are given back.
	generation uint32
	failing    bool // the last attempt to open a connection failed, and that was logged
}

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
		if s := b.takeIdle(t.Keeper, now); s != nil {
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
	return true
}

// takeIdle takes the hottest idle server that may still be reused, of the keeper if it has one. Called with mu held.
func (b *Budget) takeIdle(keeper Keeper, now replication.Instant) *Server {
	for len(b.shelf) > 0 {
		s := b.unshelve(b.hottest(keeper))
		if !s.Gone() && now.Sub(s.born) < b.set.cfg.Lifetime {
			return s
		}
		b.drop(s)
	}
	return nil
}

// hottest finds the place on the shelf. Called with mu held, while something is there.
func (b *Budget) hottest(keeper Keeper) int {
	top := len(b.shelf) - 1
	for i := top; i >= 0 && keeper != nil; i-- {
		if b.shelf[i].keeper == keeper {
			return i
		}
	}
	return top
}

// unshelve takes the server off the shelf. Called with mu held.
func (b *Budget) unshelve(i int) *Server {
	s := b.shelf[i]
	last := len(b.shelf) - 1
	copy(b.shelf[i:], b.shelf[i+1:])
	b.shelf[last] = nil
	b.shelf = b.shelf[:last]
	return s
}

// lend marks the server as used. Called with mu held.
func (b *Budget) lend(s *Server) {
	s.state = serverUsed
	b.used++
	b.load.Add(1)
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
	b.load.Add(-1)
	notify := b.held && b.role == replication.RolePrimary
	var next *Ticket
	switch {
	case !keep || b.closed || s.Gone() || now.Sub(s.born) >= b.set.cfg.Lifetime:
		b.drop(s)
	case s.cancels > 0:
		s.state = serverParked
	default:
		next = b.reuse(s, now)
	}
	b.mu.Unlock()
	if notify {
		b.set.cfg.Changed()
	}
	return next
}

// reuse lends the server to the first in the queue or puts it on the shelf. Called with mu held.
func (b *Budget) reuse(s *Server, now replication.Instant) *Ticket {
	if b.paused || s.generation != b.generation {
		b.drop(s)
		return nil
	}
	if !b.held {
		if t := b.waiting.pop(); t != nil {
			b.lend(s)
			return t
		}
	}
	s.state = serverIdle
	s.idleSince = now
	b.shelf = append(b.shelf, s)
	return nil
}

// cancelled notes that one CancelRequest has ended; a server that was parked for it is free again.
func (b *Budget) cancelled(s *Server, now replication.Instant) *Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.cancels--
	if s.cancels > 0 || s.state != serverParked {
		return nil
	}
	if b.closed || s.Gone() {
		b.drop(s)
		return nil
	}
	return b.reuse(s, now)
}

// fill opens connections as long as more sessions wait than are being served by those under way. Called with mu held.
func (b *Budget) fill() {
	for !b.closed && !b.paused && b.dialing < b.waiting.length && b.open < b.set.cfg.Max {
		b.open++
		b.dialing++
		b.set.tasks.Go(b.serve)
	}
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
		next = b.reuse(s, b.set.now())
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
		for i, idle := range b.shelf {
			if idle == s {
				b.shelf = append(b.shelf[:i], b.shelf[i+1:]...)
				break
			}
		}
	}
	if s.state != serverUsed { // else giveBack will see that it is gone
		s.state = serverGone
	}
	delete(b.all, s)
	b.open--
	b.fill()
	b.set.closed.Publish(struct{}{})
}

// connect tries until there is a connection. It returns nil, having given up its place, when it may not go on.
func (b *Budget) connect() *Server {
	pause := b.set.cfg.Backoff
	for {
		s, err := b.set.open(b)
		if err == nil {
			return s
		}
		if !b.failed(err) {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
		}
		pause = min(2*pause, 16*b.set.cfg.Backoff)
	}
}

// failed deals with a connection that could not be opened and reports whether to try again.
//
// A refusal of the role or database itself is everybody's answer if the primary gives it; a standby may only not know
// them yet. Anything else may pass: of several attempts under way one goes on. Those who wait for a standby are sent away
// to choose another node; those who wait for the primary wait on, within the hold timeout of their sessions.
func (b *Budget) failed(err error) (again bool) {
	var refusal *LoginError
	lasting := errors.As(err, &refusal) && refusal.Lasting()
	b.mu.Lock()
	var turned []*Ticket
	full := refusal != nil && refusal.SQLSTATE == "53300" && b.open > b.dialing
	switch {
	case lasting, b.role == replication.RoleStandby && !full:
		turned = b.waiting.drain()
	case !b.closed && b.dialing == 1 && b.waiting.length > 0 && !full:
		again = true
	}
	if !again {
		b.dialing--
		b.open--
		b.set.closed.Publish(struct{}{})
	}
	repeated := b.failing
	b.failing = true
	b.mu.Unlock()
	b.set.logFailure(b, err, repeated)
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

// fence closes the budget. Servers in use are closed too if hard, else when they are given back. The tickets that
// waited are returned: they must be routed again.
func (b *Budget) fence(hard bool) []*Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.stop(errClosed)
	for _, s := range b.shelf {
		b.drop(s)
	}
	b.shelf = nil
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
	return b.waiting.drain()
}

// reap closes servers that have been idle for too long: the bottom of the shelf is the coldest.
func (b *Budget) reap(now replication.Instant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cold := 0
	for cold < len(b.shelf) && now.Sub(b.shelf[cold].idleSince) >= b.set.cfg.IdleTimeout {
		b.drop(b.shelf[cold])
		cold++
	}
	b.shelf = append(b.shelf[:0], b.shelf[cold:]...)
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
