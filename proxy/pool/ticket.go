package pool

import (
	"sync/atomic"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Waiter is who holds a Ticket. Both methods are called without any lock of the pool and may be called from any
// goroutine, at most one of them per queued Ticket.
type Waiter interface {
	// Granted lends server to the ticket's holder, who gives it back with Release or Discard.
	Granted(t *Ticket, server *Server)
	// Refused ends the wait.
	Refused(t *Ticket, failure session.Failure)
}

// Ticket is one session's request for a server connection. Its owner may reuse it once the request has ended.
type Ticket struct {
	Database string
	User     string
	Need     session.Need
	Bytes    int64 // that the session has collected, for the limit on held bytes
	// Now is the time of the request; 0: it is to be asked of the clock.
	Now    replication.Instant
	Waiter Waiter
	// Keeper is who must keep the server for the Waiter to use it: such servers are preferred, and another one is moved
	// there. nil: any will do.
	Keeper Keeper

	// Status, Lost, Why, Token and Proof are set by whoever chose the node; see session.Attachment.
	Status replication.Status
	Lost   bool
	Why    string
	Token  replication.LSN
	Proof  bool
	// Members is scratch space of whoever chooses the node. Hurried: no standby is waited for any more.
	Members []router.Standing
	Hurried bool
	// Avoid is a node that could not be reached in this request.
	Avoid replication.NodeID

	withdrawn  atomic.Bool
	home       atomic.Pointer[Budget] // in whose queue it is; changed under that budget's mu
	next, prev *Ticket                // guarded by the mu of home
	queued     replication.Instant    // when it entered that queue
}

// Reset makes a ticket whose request has ended ready for the next one.
func (t *Ticket) Reset() {
	t.withdrawn.Store(false)
	t.Status, t.Lost, t.Avoid, t.Hurried = replication.Status{}, false, "", false
}

// Withdrawn reports whether the ticket's owner wants it no more: whoever finds it so ends it with Refused.
func (t *Ticket) Withdrawn() bool { return t.withdrawn.Load() }

// Withdraw marks the ticket and takes it out of the queue it is in; false means that it is in none now: Granted or
// Refused has been or will be called.
func (t *Ticket) Withdraw() bool {
	t.withdrawn.Store(true)
	b := t.home.Load()
	return b != nil && b.withdraw(t)
}

// queue is a list of tickets in the order of Need.Ticket. Guarded by its Budget's mu.
type queue struct {
	head, tail *Ticket
	length     int
}

// push adds t behind all tickets that are not younger: a session that returns with its old ticket keeps its place.
func (q *queue) push(t *Ticket) {
	after := q.tail
	for after != nil && t.Need.Ticket != 0 && after.Need.Ticket > t.Need.Ticket {
		after = after.prev
	}
	t.prev = after
	if after == nil {
		t.next, q.head = q.head, t
	} else {
		t.next, after.next = after.next, t
	}
	if t.next == nil {
		q.tail = t
	} else {
		t.next.prev = t
	}
	q.length++
}

func (q *queue) remove(t *Ticket) {
	if t.prev == nil {
		q.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		q.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.next, t.prev = nil, nil
	t.home.Store(nil)
	q.length--
}

// pop takes the first ticket, nil when there is none.
func (q *queue) pop() *Ticket {
	t := q.head
	if t != nil {
		q.remove(t)
	}
	return t
}

// oldest is when the first began to wait, 0 when nobody does.
func (q *queue) oldest() replication.Instant {
	if q.head == nil {
		return 0
	}
	return max(q.head.Need.Ticket, 1)
}

// at returns the ticket with n others before it.
func (q *queue) at(n int) *Ticket {
	t := q.head
	for range n {
		t = t.next
	}
	return t
}

// drain takes all tickets, in order.
func (q *queue) drain() []*Ticket {
	var all []*Ticket
	for t := q.pop(); t != nil; t = q.pop() {
		all = append(all, t)
	}
	return all
}
