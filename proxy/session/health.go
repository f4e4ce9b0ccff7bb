package session

import (
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/replication"
)

// Health counts failures in a row, of attempts to connect to a node or of turns on it, and ejects the node: it should get
// no reads for a time, which doubles as long as it goes on failing when that is over. It is a figure for choosing: of what
// is counted at the same moment some may be lost. A nil Health counts nothing.
type Health struct {
	After int           // so many failures in a row eject; 0: never
	For   time.Duration // for how long, the first time

	failures  atomic.Int32 // in a row
	times     atomic.Int32 // ejections in a row
	until     atomic.Int64 // replication.Instant; 0: never ejected
	ejections atomic.Uint64
}

// maxDoublings bounds how often the time of an ejection is doubled.
const maxDoublings = 4

// Failed counts a failure. While the node is ejected more of them say nothing new; behind that the first one ejects it
// again.
func (h *Health) Failed(now replication.Instant) {
	if h == nil || h.After <= 0 || now < h.EjectedUntil() {
		return
	}
	if n := h.failures.Add(1); n < int32(h.After) && h.times.Load() == 0 {
		return
	}
	times := h.times.Add(1)
	h.until.Store(int64(now.Add(h.For << min(times-1, maxDoublings))))
	h.ejections.Add(1)
}

// Well counts a success. What was under way when the node was ejected does not bring it back.
func (h *Health) Well(now replication.Instant) {
	if h == nil || h.failures.Load() == 0 && h.times.Load() == 0 {
		return
	}
	h.failures.Store(0)
	if now >= h.EjectedUntil() {
		h.times.Store(0)
	}
}

// Restore ends an ejection at once.
func (h *Health) Restore(now replication.Instant) {
	if h.EjectedUntil() > now {
		h.until.Store(int64(now))
	}
	h.Well(now)
}

// EjectedUntil is until when the node should get no reads, or when the last ejection ended; 0: there was none.
func (h *Health) EjectedUntil() replication.Instant { return replication.Instant(h.until.Load()) }

// Ejections counts them.
func (h *Health) Ejections() uint64 { return h.ejections.Load() }
