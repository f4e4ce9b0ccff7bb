package pool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// patience is how long the first of one pool must have waited before a connection of another pool that has waiting
// sessions too, but younger ones, is given up for it. Without it two busy pools that share a limit would open a new
// connection for every transaction.
const patience = 100 * time.Millisecond

// NodeLoad is what a node has to do for this proxy, and how it does.
type NodeLoad struct {
	load     atomic.Int32 // servers in use
	latency  session.Latency
	connects session.Health // of attempts to connect
	turns    session.Health
}

// Outstanding counts the servers in use.
func (n *NodeLoad) Outstanding() int32 { return n.load.Load() }

// Latency is how long turns take there lately; 0 when that is not known.
func (n *NodeLoad) Latency(now replication.Instant) time.Duration { return n.latency.Average(now) }

// EjectedUntil is until when the node should get no reads, because connections to it or turns on it have failed; or when
// that ended last.
func (n *NodeLoad) EjectedUntil() replication.Instant {
	return max(n.connects.EjectedUntil(), n.turns.EjectedUntil())
}

// connected notes how an attempt to connect went: one that succeeds ends what others have caused.
func (n *NodeLoad) connected(ok bool, now replication.Instant) {
	if ok {
		n.connects.Restore(now)
	} else {
		n.connects.Failed(now)
	}
}

// node is what the Budgets of one node share.
type node struct {
	name replication.NodeID
	NodeLoad
	dials   chan struct{} // a token for each attempt to connect that is under way
	cancels chan struct{} // and for each CancelRequest
	queued  atomic.Int32  // CancelRequests that wait for a token
	hungry  atomic.Int32  // length of line: every release reads it
	evicted atomic.Int64  // connections closed to make room for another pool, ever

	mu     sync.Mutex // taken after a Budget's
	room   room
	line   []claim // in the order in which their sessions began to wait
	giving int     // connections that are being closed for those in line
}

// claim is the wish of a Budget for one more connection.
type claim struct {
	budget *Budget
	since  replication.Instant // when the session that needs it began to wait
	scope  scope               // what leaves no room; scopeNone: it waits only because others came first
}

func newNode(name replication.NodeID, limit, dials, cancels int) *node {
	return &node{
		name: name, dials: make(chan struct{}, dials), cancels: make(chan struct{}, cancels),
		room: room{max: limit, databases: map[string]int{}, users: map[string]int{}},
	}
}

// enter makes room for one connection of b, for a session that has waited since, or puts b in line. Nobody overtakes
// those in line except the steward, who serves it. Called with b.mu held.
func (n *node) enter(b *Budget, since replication.Instant, steward bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if steward || len(n.line) == 0 {
		full := n.room.full(b.key, b.limits)
		if full == scopeNone && !n.overtakes(b) {
			n.room.add(b.key)
			n.quit(b)
			return true
		}
		n.queue(claim{b, since, full})
		return false
	}
	n.queue(claim{b, since, n.room.full(b.key, b.limits)})
	return false
}

// overtakes reports whether somebody who is in line before b could have the room as well: it has become free since the
// steward looked at that claim, and whoever freed it has woken the steward again. Called with mu held.
func (n *node) overtakes(b *Budget) bool {
	for _, c := range n.line {
		if c.budget == b {
			return false
		}
		if n.room.full(c.budget.key, c.budget.limits) == scopeNone {
			return true
		}
	}
	return false
}

// warm makes room for a connection that nobody waits for: only where nobody is in line.
func (n *node) warm(b *Budget) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.line) > 0 || n.room.full(b.key, b.limits) != scopeNone {
		return false
	}
	n.room.add(b.key)
	return true
}

// queue puts a claim in its place, and the older claim of the same Budget out of it. Called with mu held.
func (n *node) queue(c claim) {
	n.line = slices.DeleteFunc(n.line, func(old claim) bool { return old.budget == c.budget })
	at, _ := slices.BinarySearchFunc(n.line, c.since+1, func(c claim, t replication.Instant) int { return int(c.since - t) })
	n.line = slices.Insert(n.line, at, c)
	n.hungry.Store(int32(len(n.line)))
	c.budget.inLine = true
}

// quit takes b out of the line. Called with mu and b.mu held.
func (n *node) quit(b *Budget) {
	if !b.inLine {
		return
	}
	b.inLine = false
	n.line = slices.DeleteFunc(n.line, func(c claim) bool { return c.budget == b })
	n.hungry.Store(int32(len(n.line)))
}

// leave takes b out of the line. Called with b.mu held.
func (n *node) leave(b *Budget) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.quit(b)
}

// left notes the end of a connection and reports whether somebody is in line for its room.
func (n *node) left(key Key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.room.remove(key)
	n.giving = max(n.giving-1, 0)
	return len(n.line) > 0
}

// claims returns those in line, oldest first.
func (n *node) claims() []claim {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.line)
}

// gives reports whether b must close a connection that it could use again, because another pool needs the room more:
// own is when the first that waits for b began to (0: nobody does). Called with b.mu held.
func (n *node) gives(b *Budget, own, now replication.Instant) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.line { // what left no room when they came may have changed
		n.line[i].scope = n.room.full(n.line[i].budget.key, n.line[i].budget.limits)
	}
	if n.giving >= len(n.line) || !mustGive(n.line, b, own, now) {
		return false
	}
	n.giving++
	n.evicted.Add(1)
	return true
}

// mustGive is the rule of gives.
func mustGive(line []claim, b *Budget, own, now replication.Instant) bool {
	for _, c := range line {
		if c.budget == b || !c.scope.relieves(c.budget.key, b.key) {
			continue
		}
		if own == 0 || c.since < own && now.Sub(c.since) >= patience {
			return true
		}
	}
	return false
}

// idlest is what the steward knows of a pool that has an idle connection.
type idlest struct {
	budget *Budget
	since  replication.Instant // how long its coldest one has been idle
	spare  bool                // the pool has more than its minimum
}

// choose returns the place of the pool that closes an idle connection so that c gets its room, -1 when there is none:
// the coldest, and one that a minimum protects only if there is no other.
func choose(c claim, pools []idlest) int {
	best := -1
	for i, p := range pools {
		if p.budget == c.budget || !c.scope.relieves(c.budget.key, p.budget.key) {
			continue
		}
		if best < 0 || p.spare && !pools[best].spare || p.spare == pools[best].spare && p.since < pools[best].since {
			best = i
		}
	}
	return best
}

// idle lists the pools of the node that have an idle connection.
func (n *node) idle(budgets []*Budget) (pools []idlest) {
	for _, b := range budgets {
		if b.node != n {
			continue
		}
		b.mu.Lock()
		if s := b.coldest(); s != nil {
			pools = append(pools, idlest{b, s.idleSince, b.open > b.limits.Min})
		}
		b.mu.Unlock()
	}
	return pools
}

// evict closes the coldest idle connection of the pool; false means that none is idle any more.
func (b *Budget) evict() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.coldest()
	if s == nil {
		return false
	}
	b.node.evicted.Add(1)
	b.unshelve(s)
	b.drop(s)
	return true
}

// spare reports whether more are in line than connections are being closed for them, and counts one more if so.
func (n *node) spare() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.giving >= len(n.line) {
		return false
	}
	n.giving++
	return true
}

// spared takes back what spare has counted: no connection is being closed after all.
func (n *node) spared() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.giving = max(n.giving-1, 0)
}
