package catalog

import "sync/atomic"

// memory holds fingerprints of statements that a standby has refused though they looked like reads. It is small and
// forgets: one of two that share a place is asked of a standby once more.
type memory struct {
	used   atomic.Bool
	places [512]atomic.Uint64
}

func (m *memory) place(fingerprint uint64) *atomic.Uint64 {
	return &m.places[fingerprint>>55] // the 9 bits that are mixed best
}

func (m *memory) forget() {
	if m.used.Swap(false) {
		for i := range m.places {
			m.places[i].Store(0)
		}
	}
}

// Refuses reports whether a standby has refused anything at all: else there is no need to make fingerprints.
func (e *Entry) Refuses() bool { return e.refused.used.Load() }

// Refused reports whether a standby has refused such a statement since the catalog was last seen to change.
func (e *Entry) Refused(fingerprint uint64) bool {
	return e.refused.place(fingerprint).Load() == fingerprint
}

// Refuse remembers such a statement.
func (e *Entry) Refuse(fingerprint uint64) {
	if e.set == nil || fingerprint == 0 {
		return // nobody would ever forget it
	}
	e.refused.place(fingerprint).Store(fingerprint)
	e.refused.used.Store(true)
}
