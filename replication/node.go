package replication

import "time"

// NodeID is a member's name; it is also its application_name in replication, and names its slot (postgres.SlotName).
type NodeID string

// Epoch is walgate's fencing number: it rises by one at each claim of leadership and is never reused. It is neither
// PostgreSQL's timeline nor etcd's term.
type Epoch uint64

// Instant is a reading of CLOCK_BOOTTIME in nanoseconds (clock_gettime(2)): it does not jump with the wall clock and,
// unlike CLOCK_MONOTONIC, goes on during suspend. Instants of different machines must never be compared. The zero
// Instant means "never".
type Instant int64

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from earlier to i.
func (i Instant) Sub(earlier Instant) time.Duration { return time.Duration(i - earlier) }

// Before reports whether i is earlier than other.
func (i Instant) Before(other Instant) bool { return i < other }
