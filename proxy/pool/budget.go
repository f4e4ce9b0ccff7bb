package pool

import (
	"context"
	"errors"
	"sync"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
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
