package ha

import "github.com/walgate/walgate/replication"

// Decision is what to do now: one move for each hand, whether the door may be open, and why. Decisions are data: two of
// them compare with go-cmp or reflect.DeepEqual. Every move is safe to repeat, and is derived anew at each tick.
type Decision struct {
	Lease    LeaseMove
	Postgres PostgresMove
	// Door: local clients and the local proxy may write now. It must be shut at once when false, and by itself at
	// DoorUntil even if no further decision comes.
	Door      bool
	DoorUntil replication.Instant
	// KillAt is when the guard must kill PostgreSQL unless it hears of a later time (F1); zero: nothing to guard, or
	// the cluster is paused.
	KillAt replication.Instant
	// WakeAt is when a decision may change though nothing else does; the agent asks again then at the latest.
	WakeAt replication.Instant
	Why    string // one sentence; logged when it changes
}

// LeaseKind names a move of the lease hand: one write to the store.
type LeaseKind string

// The moves of the lease hand. Each is one transaction; the revisions in LeaseMove are compared in it.
const (
	LeaseKeep LeaseKind = "keep" // nothing to write

	LeaseTakeInit  LeaseKind = "take-init" // take the init lock (create init if absent, bound to an etcd lease)
	LeaseBootstrap LeaseKind = "bootstrap" // create record, if there is none and I hold the init lock
	LeaseJoin      LeaseKind = "join"      // put Record: me among its members (also when my addresses changed)
	LeaseRenew     LeaseKind = "renew"     // put Beat
	LeaseRelease   LeaseKind = "release"   // put Beat with its Release: the last one
	// LeaseVote puts Vote if the key's mod revision is VoteRev (0: absent). LeaseUnvote puts Vote (Withdrawn) without a
	// compare: never a delete, so that a vote still on its way fails its compare.
	LeaseVote   LeaseKind = "vote"
	LeaseUnvote LeaseKind = "unvote"
	// LeaseClaim puts Record and Beat if the revisions of record, beat and Counted are unchanged.
	LeaseClaim LeaseKind = "claim"
	// LeaseWrite puts Record if it is unchanged. Only the holder sends it (voters, handoff, ...).
	LeaseWrite LeaseKind = "write"
	// LeaseOpen creates ledger/<epoch> from Entry and puts Record, if record and beat are unchanged.
	LeaseOpen LeaseKind = "open"
)

// VoteRev is a vote that a claim counts, with the mod revision to compare.
type VoteRev struct {
	Node replication.NodeID
	Rev  int64
}

// LeaseMove is one move of the lease hand. Values are complete: the hand writes them as they are.
type LeaseMove struct {
	Kind      LeaseKind
	Record    *Record // bootstrap, join, claim, write, open
	RecordRev int64   // to compare
	Beat      *Beat   // renew, release, claim
	BeatRev   int64   // to compare
	Vote      *Vote   // vote, unvote
	VoteRev   int64   // to compare in a vote
	Counted   []VoteRev
	Entry     *LedgerEntry // open
}

// PostgresKind names a move of the PostgreSQL hand.
type PostgresKind string

// The moves of the PostgreSQL hand.
const (
	PostgresLeave PostgresKind = "leave" // nothing to do

	PostgresInitdb PostgresKind = "initdb"
	// PostgresClone, PostgresRewind and PostgresReclone store Lineage when they are done. Until then the directory is
	// DirectoryBroken, and what lineage was stored for the old content is removed.
	PostgresClone PostgresKind = "clone" // base backup from Source into an absent or empty directory
	// PostgresStart stores Lineage (unless nil), then starts as standby that follows Source; empty: nobody (frozen).
	// It ends when the postmaster runs; that it accepts queries is observed.
	PostgresStart PostgresKind = "start"
	// PostgresFollow stores Lineage, then points the running standby at Source by reload.
	PostgresFollow PostgresKind = "follow"
	// PostgresFreeze points the running standby at nobody and returns when no WAL receiver process is left.
	PostgresFreeze PostgresKind = "freeze"
	// PostgresPrepare captures next xid and the end of replay, before promotion.
	PostgresPrepare PostgresKind = "prepare"
	// PostgresPromote stores Lineage, sets Names (before it), promotes, and checks that recovery has ended.
	PostgresPromote PostgresKind = "promote"
	PostgresNames   PostgresKind = "names" // synchronous_standby_names := Names, by reload
	PostgresSlots   PostgresKind = "slots" // exactly Slots exist (physical); others of ours are dropped
	// PostgresCheckpoint runs a checkpoint in the background; it does not occupy the hand.
	PostgresCheckpoint PostgresKind = "checkpoint"
	PostgresStopFast   PostgresKind = "stop"      // fast shutdown, escalating to KillWhole after Timing.Stop
	PostgresKillWhole  PostgresKind = "kill"      // SIGKILL until wait says ECHILD; interrupts any other move
	PostgresReadEnd    PostgresKind = "read-end"  // find the end of valid WAL in the stopped directory
	PostgresInspect    PostgresKind = "inspect"   // gather RejoinFacts from Source
	PostgresRewind     PostgresKind = "rewind"    // stopped directory: save WAL past Fork with a loss report, pg_rewind from Source
	PostgresReclone    PostgresKind = "reclone"   // rename the directory aside, then clone from Source
	PostgresDropFresh  PostgresKind = "dropfresh" // rename aside a Fresh directory that lost the race to bootstrap
)

// PostgresMove is one move of the PostgreSQL hand.
type PostgresMove struct {
	Kind    PostgresKind
	Source  replication.NodeID // clone, start, follow, inspect, rewind, reclone
	Lineage *Lineage           // start, follow, promote, clone, rewind, reclone
	Names   SyncNames          // names, promote
	Slots   []replication.NodeID
	Fork    replication.LSN // rewind, reclone: what lies past it is lost; for the loss report
}
