package pool

import (
	"time"

	"github.com/walgate/walgate/replication"
)

// recycling is a Budget whose servers have been outdated by ALTER ROLE or ALTER DATABASE. If that changed the password of
// the role, PostgreSQL refuses new connections until somebody has shown the new one here, and sessions that are logged in
// can only go on with the servers that there are. So the idle ones are spared until a new connection was opened, which is
// tried at once. Guarded by Budget.mu.
type recycling struct {
	active bool
	// crowded: PostgreSQL has no room for a connection beside those that there are.
	crowded bool
	until   replication.Instant // the end of the trial, however it stands
	pardon  uint32              // what Budget.oldest was before
	spared  []*Server           // idle, lent to nobody
}

// trial bounds a recycling: those whom another pool's connections leave no room must not wait for ever.
const trial = 5 * time.Second

// recycle outdates all servers. Called with mu held.
func (b *Budget) recycle(now replication.Instant) {
	b.generation++
	if b.closed || b.paused || len(b.all) == 0 {
		b.settle()
		return
	}
	if r := &b.recycling; !r.active {
		r.active, r.until, r.pardon = true, now.Add(trial), b.oldest
	}
	b.oldest = b.generation
	b.recycling.spared = append(b.recycling.spared, b.shelf...)
	b.shelf = nil
	b.probe()
}

// probe tries to open a connection, for which an idle server is closed if there is no room. The last one is not: should the
// password be known to nobody here, the sessions have nothing else. So the pool may have one connection too many until the
// trial is over, if the node has room. Called with mu held.
func (b *Budget) probe() {
	r := &b.recycling
	switch {
	case !r.active || b.dialing > 0 || b.closed:
	case b.open < b.ceiling() && b.node.warm(b):
		b.begin()
	case len(r.spared) == 1 && b.used == 0 && !r.crowded && b.node.warm(b):
		b.begin()
	case len(r.spared) > 1 || len(r.spared) == 1 && b.used == 0:
		b.drop(r.spared[0]) // its end leads here again
		r.spared = r.spared[1:]
	}
}

// spare keeps an outdated server that was given back, if it may be needed; false: it must be closed. Called with mu held.
func (b *Budget) spare(s *Server, now replication.Instant) bool {
	if !b.recycling.active || s.generation >= b.oldest || s.generation < b.recycling.pardon || s.Gone() || s.tainted || b.paused {
		return false
	}
	s.state, s.idleSince = serverIdle, now
	b.recycling.spared = append(b.recycling.spared, s)
	b.probe()
	return true
}

// settle ends a recycling, and a pardon: only servers of the newest generation may be lent. Called with mu held.
func (b *Budget) settle() {
	b.oldest = b.generation
	for _, s := range b.recycling.spared {
		b.drop(s)
	}
	b.recycling = recycling{}
}

// forgive ends a recycling because PostgreSQL does not take the password that is known here: the servers from before are
// lent again, until a newer one could be opened. It returns those that sessions have waited for. Called with mu held.
func (b *Budget) forgive(now replication.Instant) (loans []loan) {
	if !b.recycling.active {
		return nil
	}
	spared := b.recycling.spared
	b.oldest = b.recycling.pardon
	b.recycling = recycling{}
	for _, s := range spared {
		if !b.fresh(s, now) {
			b.drop(s)
		} else if t := b.reuse(s, s.idleSince); t != nil {
			loans = append(loans, loan{t, s})
		}
	}
	return loans
}

// loan is a server that a ticket has now: see Set.Deliver.
type loan struct {
	ticket *Ticket
	server *Server
}
