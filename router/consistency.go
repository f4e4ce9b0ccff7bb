package router

import "github.com/walgate/walgate/replication"

// Consistency is what one session must be able to see. The zero Consistency has seen nothing. It is a value of the
// session and not safe for concurrent use. Instants are this machine's.
type Consistency struct {
	touched replication.Instant // end of the last turn on the primary that no sample has covered yet; 0: none
	epoch   replication.Epoch   // to which token belongs
	token   replication.LSN     // what a standby must have replayed
	sticky  replication.NodeID  // the standby of the last read; empty: none since the last turn on the primary
	life    int64               // its incarnation
	seen    replication.LSN     // what it was known to have replayed at that read
	readAt  replication.Instant // when that read ended
}

// Requirement is what a standby must satisfy to serve a read; Pick applies it.
type Requirement struct {
	// PrimaryOnly: no standby can be proved fresh enough now; Why says why.
	PrimaryOnly bool
	Why         string
	// Lost: the session saw something past the fork of the new timeline: an acknowledged write was lost.
	Lost bool
	// Token must have been replayed by any standby.
	Token replication.LSN
	// Sticky, in incarnation StickyLife, needs no more than Token; every other standby must have replayed SwitchToken
	// too, or may not serve at all if SwitchUnknown.
	Sticky        replication.NodeID
	StickyLife    int64
	SwitchToken   replication.LSN
	SwitchUnknown bool
	Bounded       bool // the thresholds on lag apply
}

// Touched notes that a turn on the primary ended at now, whether it wrote or read.
func (c *Consistency) Touched(now replication.Instant) {}

// ReadFrom notes that a read on the standby with that status (as the board showed it when it was chosen) ended at now.
func (c *Consistency) ReadFrom(status replication.Status, now replication.Instant) {}

// Require returns what a read that arrived at arrival needs at the given level.
func (c *Consistency) Require(level Level, arrival replication.Instant, view *replication.View, board *replication.StatusBoard) Requirement {
	return Requirement{PrimaryOnly: true, Why: "not built"}
}
