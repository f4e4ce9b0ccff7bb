package session

import "sync/atomic"

// Definitions tells the sessions of one database that tables, types, functions and the like have changed: what clients
// parse then is parsed anew by servers. It may be used by any goroutine; nil never tells anything.
type Definitions struct{ changes atomic.Uint64 }

func (d *Definitions) changed() {
	if d != nil {
		d.changes.Add(1)
	}
}

func (d *Definitions) count() uint64 {
	if d == nil {
		return 0
	}
	return d.changes.Load()
}
