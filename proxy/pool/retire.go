package pool

import (
	"slices"

	"github.com/walgate/walgate/replication"
)

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
