package pool

import (
	"time"

	"github.com/walgate/walgate/replication"
)

// Stats are the numbers of one Budget.
type Stats struct {
	Key
	Role    replication.Role
	Epoch   replication.Epoch
	Limits  Limits
	Open    int           // connections, those being opened included
	Opening int           // of those, being opened
	Used    int           // of those, lent to sessions
	Idle    int           // of those, free
	Parked  int           // of those, given back while a CancelRequest was under way
	Waiting int           // sessions in the queue
	MaxWait time.Duration // how long the first of them has waited here
	InLine  bool          // for room that another limit than Limits.Max does not leave
	Shrunk  bool          // PostgreSQL had no connection left
}

// Stats returns the numbers of all budgets in no particular order.
func (s *Set) Stats() []Stats {
	now := s.now()
	var all []Stats
	for _, b := range s.list() {
		all = append(all, b.stats(now))
	}
	return all
}

func (b *Budget) stats(now replication.Instant) Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Stats{
		Key: b.key, Role: b.role, Epoch: b.epoch, Limits: b.limits, Open: b.open, Opening: b.dialing, Used: b.used,
		Idle: len(b.shelf), Waiting: b.waiting.length, InLine: b.inLine, Shrunk: now < b.shrunkUntil,
	}
	for s := range b.all {
		if s.state == serverParked {
			st.Parked++
		}
	}
	if head := b.waiting.head; head != nil {
		st.MaxWait = max(now.Sub(head.queued), 0)
	}
	return st
}

// NodeStats are the numbers of what the Budgets of one node share.
type NodeStats struct {
	Node      replication.NodeID
	Max       int            // connections; 0: no limit
	Open      int            // connections, those being opened included
	Databases map[string]int // of those, by database
	Users     map[string]int // and by user
	Dials     int            // attempts to connect that are under way
	Cancels   int            // CancelRequests that are under way
	Queued    int            // and that wait to be sent
	InLine    int            // pools that wait for room
	Evicted   int64          // connections closed to make room for another pool, ever
	// Ejections count how often the node got no reads for a while because attempts to connect, or turns, had failed in a row.
	ConnectEjections, TurnEjections uint64
}

// NodeStats returns the numbers of all nodes in no particular order.
func (s *Set) NodeStats() []NodeStats {
	var all []NodeStats
	for _, n := range s.nodeList() {
		n.mu.Lock()
		st := NodeStats{
			Node: n.name, Max: n.room.max, Open: n.room.open, Databases: map[string]int{}, Users: map[string]int{},
			Dials: len(n.dials), Cancels: len(n.cancels), Queued: int(n.queued.Load()), InLine: len(n.line),
			Evicted: n.evicted.Load(), ConnectEjections: n.connects.Ejections(), TurnEjections: n.turns.Ejections(),
		}
		for name, count := range n.room.databases {
			st.Databases[name] = count
		}
		for name, count := range n.room.users {
			st.Users[name] = count
		}
		n.mu.Unlock()
		all = append(all, st)
	}
	return all
}

// Totals are what a Set has done since it was made.
type Totals struct {
	Opened         int64 // connections
	CancelsSent    int64 // CancelRequests that PostgreSQL has dealt with
	CancelsDropped int64 // CancelRequests for which the line was full
}

// Totals returns the counters.
func (s *Set) Totals() Totals {
	return Totals{Opened: s.opened.Load(), CancelsSent: s.cancelsSent.Load(), CancelsDropped: s.cancelsDropped.Load()}
}
