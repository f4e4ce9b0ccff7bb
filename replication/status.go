package replication

import "time"

// Role is what a PostgreSQL says of itself.
type Role uint8

// The roles. The zero Role claims nothing.
const (
	RoleUnknown Role = iota
	RolePrimary
	RoleStandby
)

// String returns the word that the API shows.
func (r Role) String() string {
	switch r {
	case RolePrimary:
		return "primary"
	case RoleStandby:
		return "standby"
	default:
		return "unknown"
	}
}

// Status is what one PostgreSQL last said of itself: advisory, never a reason to write anywhere.
type Status struct {
	Node NodeID
	Role Role
	// Reachable is false when the last question was not answered; positions are then the last known ones.
	Reachable bool
	AskedAt   Instant // when the question was sent, on the asker's clock; positions are at least that new
	At        Instant // when the answer arrived, on the asker's clock
	// Incarnation is pg_postmaster_start_time in microseconds: positions of different incarnations do not compare.
	Incarnation int64
	// Life changes with every connection of the asker, so that within one the replay position has not gone back. After a
	// backend's crash a standby recovers from an earlier position within the same Incarnation.
	Life      int64
	Timeline  Timeline
	Received  LSN // standby: flushed to its disk; primary: its flush position
	Replayed  LSN // standby: replayed; primary: its flush position
	Streaming bool
	Upstream  string // host:port that a standby streams from
	// LagBytes and Lag are how far replay is behind the primary's flush position; -1 when not known. Lag comes from
	// the asker's ring of (clock, primary flush position) and does not lie after idleness.
	LagBytes  int64
	Lag       time.Duration
	SyncState string // of this standby as the primary sees it: async, potential, sync, quorum
}

// Sample is a flush position of the primary: everything that was acknowledged before SentAt lies at or before Flush.
type Sample struct {
	Epoch  Epoch
	SentAt Instant // when the question was sent, on the asker's clock
	Flush  LSN
	// Insert bounds the commits that did not wait for the flush (synchronous_commit = off). On a quiet primary a standby
	// may not reach it for a while.
	Insert LSN
}

// StatusBoard is an immutable snapshot of every member's Status.
type StatusBoard struct {
	Nodes   map[NodeID]Status
	Primary Sample // the newest sample; the zero Sample when there is none for the current epoch
	// Earlier are samples of the same epoch before Primary, oldest first: the oldest one that was sent after a commit
	// is the least that a standby must have replayed to show it.
	Earlier []Sample
}

// Status returns the named node's status; the zero Status when there is none.
func (b StatusBoard) Status(name NodeID) Status { return b.Nodes[name] }

// Since returns the oldest sample of the epoch that was sent at or after the instant; ok is false when there is none.
func (b StatusBoard) Since(epoch Epoch, at Instant) (s Sample, ok bool) {
	if b.Primary.Epoch != epoch || !b.Primary.Flush.Known() || b.Primary.SentAt.Before(at) {
		return Sample{}, false
	}
	for _, earlier := range b.Earlier {
		if earlier.Epoch == epoch && !earlier.SentAt.Before(at) {
			return earlier, true
		}
	}
	return b.Primary, true
}
