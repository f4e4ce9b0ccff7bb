package router

import (
	"time"

	"github.com/walgate/walgate/replication"
)

// Limits bound how far behind a standby may be to serve reads.
type Limits struct {
	MaxLagBytes int64         // for levels from bounded on; 0: no limit
	MaxLag      time.Duration // for levels from bounded on; 0: no limit
	MaxAge      time.Duration // a status older than this is no basis for a choice
}

// Input is all that Pick looks at.
type Input struct {
	View        *replication.View
	Board       *replication.StatusBoard
	Now         replication.Instant
	Kind        Kind
	Target      Target // TargetUnset counts as TargetAuto
	Requirement Requirement
	Limits      Limits
	// Load is the number of turns in progress per member, in the order of View.Members; nil: not known.
	Load []int32
	// Seed turns the choice among equals: any number that changes from session to session.
	Seed uint32
}

// Choice is where a statement runs. A zero Node means nowhere now: hold the turn (Why says what is missing).
type Choice struct {
	Node replication.NodeID
	Role replication.Role
	Why  string // constant text
}

// Pick chooses a server. Writes go to the View's primary if it is writable; reads to the least loaded standby that
// satisfies the Requirement, and else to the primary; with TargetReplica a read that no standby may serve falls back
// to the primary too, and a write is still sent to a standby (the server will refuse it), as the user asked.
func Pick(in Input) Choice { return Choice{Why: "not built"} }
