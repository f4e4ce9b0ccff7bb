package replication

import (
	"sync"
	"sync/atomic"
)

// Grant is the right to let writes through: for servers of Epoch, until Deadline on this machine's clock.
type Grant struct {
	Epoch    Epoch
	Deadline Instant
}

// Gate is the third gate against two writers: every proxy asks it before it forwards a write and before it passes on
// an acknowledgement. One writer (who follows the store) calls Set, any number of readers call Allows; both are safe
// for concurrent use, and Allows is one atomic load. The zero Gate allows nothing.
type Gate struct {
	grant atomic.Pointer[Grant]

	mu      sync.Mutex
	changed chan struct{} // closed by Set, and replaced; nil while nobody waits
}

// Set replaces the grant and wakes all who wait for a change.
func (g *Gate) Set(grant Grant) {
	g.grant.Store(&grant)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Changed returns the grant in force and a channel that is closed at the next Set.
func (g *Gate) Changed() (Grant, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.Grant(), g.changed
}

// Grant returns the grant in force.
func (g *Gate) Grant() Grant {
	if p := g.grant.Load(); p != nil {
		return *p
	}
	return Grant{}
}

// Allows reports whether a server connection of the epoch may carry a write, or its acknowledgement, at now.
func (g *Gate) Allows(epoch Epoch, now Instant) bool {
	p := g.grant.Load()
	return p != nil && p.Epoch == epoch && epoch != 0 && now < p.Deadline
}
