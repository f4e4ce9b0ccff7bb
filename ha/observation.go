package ha

import (
	"time"

	"github.com/walgate/walgate/replication"
)

// Observation is all that Decide may look at: one consistent snapshot of the store, what this node knows of its own
// PostgreSQL, this machine's clock, and what the two hands are doing. It is a value; Decide neither keeps nor changes
// it.
//
// Who fills it must keep three promises, on which the protocol's safety rests:
//  1. Store comes from one linearizable read; Store.ReadAt was taken before that read was sent, and every *Since was
//     taken after the answer that first showed the fact had arrived.
//  2. Instance was gathered after the last move of the PostgreSQL hand had ended – or Hands.Postgres names the move
//     that is under way, in which case its facts may be older.
//  3. Store was read after the last move of the lease hand had ended with a known outcome; after an unknown outcome
//     (timeout, lost connection, failed compare) the store is read again first.
type Observation struct {
	Now   replication.Instant // CLOCK_BOOTTIME, taken after all else was gathered
	Self  Member              // this node, as it wants to stand in the record
	Nonce string              // of this incarnation of the agent; a claim and the first beat carry it
	Wall  time.Time           // for people only: ledger times; never compared

	Timing   Timing
	Rules    Rules
	Store    Store
	Lease    Lease
	Instance Instance
	Hands    Hands

	Defaults Bootstrap // what a new cluster's record starts with
}

// Bootstrap is what the first node writes into a new record.
type Bootstrap struct {
	Cluster  string
	Sync     Sync // Voters empty
	Settings Settings
}

// Rules are the safety rules that the simulator can take away to show that it would notice. Production uses
// AllRules; there is no configuration for it.
type Rules struct {
	Margin            bool // the door is shut and PostgreSQL dead D before the lease can expire elsewhere
	Guard             bool // PostgreSQL runs as primary only under a living guard (the simulator disarms it)
	Votes             bool // synchronous modes: a claim needs n-k+1 votes, and nobody who voted acknowledges
	VotersBeforeNames bool // the order of changes of voters and synchronous_standby_names
	Position          bool // a claimer is not behind any vote it counted, the release, or the lag limit
}

// AllRules are the rules of production: all of them.
func AllRules() Rules {
	return Rules{Margin: true, Guard: true, Votes: true, VotersBeforeNames: true, Position: true}
}

// Store is one linearizable snapshot of the keys under /walgate/<cluster>/. Known false means that this incarnation
// has not read the store yet; nothing but fencing is decided then. Stale snapshots are kept and used: ReadAt tells.
type Store struct {
	Known  bool
	ReadAt replication.Instant // when the last successful linearizable read was sent

	InitHolder replication.NodeID // who holds the init lock; empty: nobody

	Record    *Record // nil: there is none, the cluster is not bootstrapped
	RecordRev int64   // its mod revision

	Beat    *Beat // nil: there is none
	BeatRev int64
	// BeatSince is when the answer that first showed BeatRev arrived here. Expiry elsewhere counts from it.
	BeatSince replication.Instant
	// EpochSince is when this incarnation first saw Record.Epoch.
	EpochSince replication.Instant
	// HandoffSince and PhaseSince are when it first saw Record.Handoff.ID, and that ID in its phase; zero without one.
	HandoffSince replication.Instant
	PhaseSince   replication.Instant

	// Votes are all vote keys for Record.Epoch+1, withdrawn ones too.
	Votes []VersionedVote
	// VotesSince is when this incarnation last saw the set of votes change.
	VotesSince replication.Instant

	// Ledger is sorted by epoch; the newest 64 entries are enough.
	Ledger  []LedgerEntry
	Proxies []ProxyReport // live registrations
	Nodes   []NodeReport  // live registrations: a node whose agent lives and reaches the store
}

// VersionedVote is a vote key with its mod revision; a claim that counts it compares the revision.
type VersionedVote struct {
	Vote Vote
	Rev  int64
}

// Lease is what this incarnation knows of its own beat. The zero Lease: it holds none.
//
// A restarted agent that finds PostgreSQL alive under its guard takes Nonce, Epoch, N and SentAt from the guard
// and goes on with that nonce; if the guard does not know them, the Lease is zero and PostgreSQL is killed.
type Lease struct {
	Nonce string
	Epoch replication.Epoch
	// SentAt is when the last beat (or claim) that is known to have succeeded was sent; F0 and F1 count from it.
	SentAt replication.Instant
	N      uint64 // number of that beat
	NextN  uint64 // number for the next beat: higher than any sent, whatever became of it
	// VoteRisk is the highest epoch for which a vote of this node may lie in the store or be on its way there: set
	// before a vote is sent, and at the start of an incarnation to the epoch of the first record read + 1; cleared
	// (zero) once an Unvote for that epoch is known to have succeeded. While it is above the record's epoch this node
	// must not follow the primary.
	VoteRisk replication.Epoch
	// RecordRisk is the mod revision of the record that the last Write or Open of this node compared; when an agent
	// takes over a lease, the first one it reads. While the record still has it, that write may yet come to pass.
	RecordRisk int64
}

// Directory says what lies at the data directory's path.
type Directory string

// The states of a data directory.
const (
	DirectoryAbsent  Directory = "absent"
	DirectoryEmpty   Directory = "empty"
	DirectoryForeign Directory = "foreign" // files that are no PostgreSQL data directory: never touched
	DirectoryBroken  Directory = "broken"  // a clone or rewind of ours was interrupted (marker file): not startable
	DirectoryPresent Directory = "present"
)

// Process says how far the local PostgreSQL runs.
type Process string

// The states of the local PostgreSQL.
const (
	// ProcessStopped: no process of this instance exists – wait said ECHILD, or none was ever started here and none is
	// found by pid file, shared memory and /proc.
	ProcessStopped  Process = "stopped"
	ProcessStarting Process = "starting" // postmaster lives, no consistent state yet
	ProcessRunning  Process = "running"  // answers queries
	ProcessStopping Process = "stopping"
	// ProcessRemains: the postmaster is dead or out of control but processes of the instance are not known to be dead.
	// They may still acknowledge commits. Only KillWhole leads out of it.
	ProcessRemains Process = "remains"
)

// SyncNames is a parsed synchronous_standby_names: ANY Quorum (Names). The zero SyncNames is the empty setting.
type SyncNames struct {
	Quorum int
	Names  []replication.NodeID // sorted
}

// Standby is one row of pg_stat_replication that belongs to a member (by application_name).
type Standby struct {
	Name      replication.NodeID
	Streaming bool // state = streaming
	Flush     replication.LSN
	Replay    replication.LSN
	SyncState string
}

// Instance is what this node knows of its own PostgreSQL.
type Instance struct {
	At replication.Instant // when these facts were gathered

	Directory Directory
	// Fresh: the directory was made by our initdb and no record was ever seen with it (a marker beside it says so):
	// it holds nobody's data.
	Fresh   bool
	Process Process
	// Hung: processes of the instance are in state T or D and do not go on (read from /proc).
	Hung bool
	// ProbeFailures counts failed 1 s probes in a row; StatementAt is when a local proxy last saw a statement succeed.
	ProbeFailures int
	StatementAt   replication.Instant
	GuardAlive    bool

	// From pg_control and the files; valid when Directory is present.
	SystemID string
	// Clean: the control file says "shut down" or "shut down in recovery".
	Clean bool
	// WasPrimary: the control file says "in production" or "shut down" and there is no backup_label: the instance last
	// ran out of recovery.
	WasPrimary bool
	// Timeline, History: of the newest WAL the directory holds. End: the end of valid WAL in it; for a running standby
	// max(received and flushed, replayed), for a running primary its flush position. Zero End: not known; a stopped
	// directory's End is read by ReadEndOfWAL, or found by starting it frozen.
	Timeline replication.Timeline
	History  replication.History
	End      replication.LSN
	// Lineage is what this node stored beside the directory at the last Start, Follow or Promote; nil: nothing.
	Lineage *Lineage

	// Valid when Process is running.
	InRecovery     bool
	Received       replication.LSN // standby: flushed by the WAL receiver; 0 if there was none
	Replayed       replication.LSN
	ReplayComplete bool // replay has reached what was received, on positive evidence, twice in a row
	// Follows is the member that primary_conninfo names now (or would after start); empty: nobody – frozen.
	Follows       replication.NodeID
	ReceiverAlive bool // a WAL receiver process exists
	Streaming     bool // status = streaming, from Follows
	Names         SyncNames
	NamesInForce  bool            // Names have taken effect in every walsender and in the checkpointer's shared flag
	NamesFloor    replication.LSN // the primary's flush position sampled after Names came in force; 0: not yet
	Standbys      []Standby
	// StandbysSince is when the set of streaming Standbys last changed, at the earliest when recovery ended here.
	StandbysSince  replication.Instant
	Slots          []replication.NodeID // physical slots that exist here, sorted
	Checkpointed   bool                 // a checkpoint on the current timeline has completed since promotion
	EndOfRecovery  replication.LSN      // primary: flush position sampled after promotion
	CapturedXID    uint64               // next xid captured before promotion, at replay position CapturedEnd; 0: not captured
	CapturedEnd    replication.LSN
	StopCheckpoint bool // a checkpoint asked for by the handoff has completed since HandoffSince

	// Rejoin are the facts an Inspect gathered; nil: none yet for the current record.
	Rejoin *RejoinFacts
	// Attempts counts failed starts, clones and rewinds in a row, RetryAt is the earliest time of the next one.
	Attempts int
	RetryAt  replication.Instant
	// RewindFailed: the last rewind of this directory failed in a way that a repetition does not cure.
	RewindFailed bool
}

// RejoinFacts are what the upstream said over a replication connection (IDENTIFY_SYSTEM, TIMELINE_HISTORY).
type RejoinFacts struct {
	Epoch      replication.Epoch // of the record when it was asked
	Source     replication.NodeID
	SystemID   string
	Timeline   replication.Timeline
	Flush      replication.LSN
	History    replication.History
	InRecovery bool
	// Checkpointed: its control file is on Timeline (rewind from an older PostgreSQL reads the timeline there).
	Checkpointed bool
	// WALFrom is the oldest position it can still stream; 0: not known.
	WALFrom replication.LSN
}

// HandState says what a hand does now; the zero HandState is idle.
type HandState struct {
	Busy  bool
	Since replication.Instant
}

// Hands says what is under way. A hand carries out one move at a time; Decide is asked all the same, since the other
// hand and the door must not wait. What it says for a busy hand is compared with what the hand does: Fence moves
// (KillWhole) interrupt it, all others wait for its end.
type Hands struct {
	Lease        HandState
	LeaseMove    LeaseKind
	Postgres     HandState
	PostgresMove PostgresMove
	// PostgresEnded is when the last move of the PostgreSQL hand ended. While Instance.At is before it, nothing is
	// promised, claimed or destroyed on the strength of Instance.
	PostgresEnded replication.Instant
}
