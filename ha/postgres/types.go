package postgres

import (
	"errors"
	"time"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication"
)

// Errors that callers branch on.
var (
	ErrNoBinaries     = errors.New("no PostgreSQL binaries")
	ErrNotPresent     = errors.New("no database cluster in the data directory")
	ErrNotEmpty       = errors.New("the data directory is not empty")
	ErrNotRunning     = errors.New("PostgreSQL does not run")
	ErrRunning        = errors.New("PostgreSQL is running")
	ErrUnguarded      = errors.New("processes of this instance run outside the guard") // KillWhole ends them
	ErrDied           = errors.New("PostgreSQL ended while starting")
	ErrNotCheckpoint  = errors.New("the source has not finished its checkpoint after promotion") // retry later
	ErrRewindBroken   = errors.New("pg_rewind stopped half way: the data directory needs a new clone")
	ErrReplayPaused   = errors.New("replay is paused")
	ErrParameter      = errors.New("parameter is not allowed")
	ErrStopIncomplete = errors.New("PostgreSQL has not stopped in time")
)

// Presence is what lies at the path of the data directory.
type Presence uint8

// The kinds of presence.
const (
	Absent  Presence = iota // nothing there
	Empty                   // an empty directory
	Foreign                 // files, but no database cluster: never touched
	Present                 // a database cluster
)

// String returns the word for people.
func (p Presence) String() string {
	return [...]string{"absent", "empty", "foreign", "present"}[p]
}

// Minimums are the five settings of which a standby must have at least the primary's value, or it does not start.
type Minimums struct {
	MaxConnections          int `json:"max_connections"`
	MaxWALSenders           int `json:"max_wal_senders"`
	MaxWorkerProcesses      int `json:"max_worker_processes"`
	MaxPreparedTransactions int `json:"max_prepared_transactions"`
	MaxLocksPerTransaction  int `json:"max_locks_per_transaction"`
}

// Control is pg_controldata's report.
type Control struct {
	Version            int    // major version of the catalog, from PG_VERSION
	SystemID           string // "Database system identifier"
	State              string // "Database cluster state", as PostgreSQL words it
	Checkpoint         replication.LSN
	CheckpointRedo     replication.LSN
	CheckpointTimeline replication.Timeline
	PreviousTimeline   replication.Timeline
	NextXID            uint64 // full transaction id, as of the last checkpoint
	MinRecoveryEnd     replication.LSN
	MinRecoveryTL      replication.Timeline
	WALLogHints        bool
	Checksums          bool
	SegmentBytes       int64
	Minimums           Minimums
}

// CleanPrimary reports whether the instance last ran as a primary and was shut down.
func (c Control) CleanPrimary() bool { return c.State == "shut down" }

// CleanStandby reports whether the instance last ran as a standby and was shut down.
func (c Control) CleanStandby() bool { return c.State == "shut down in recovery" }

// WasPrimary reports whether the instance last ran out of recovery (or crashed there).
func (c Control) WasPrimary() bool {
	switch c.State {
	case "shut down", "shutting down", "in production", "in crash recovery", "starting up":
		return true
	}
	return false
}

// DataDir is what Inspect found.
type DataDir struct {
	Presence Presence
	Control  Control // zero unless Present
	// Timeline is the newest timeline that the control file or a local .history file that the control file's timeline
	// leads to tells of; History is its ancestry.
	Timeline replication.Timeline
	History  replication.History

	StandbySignal     bool
	BackupLabel       bool
	RewindInterrupted bool   // Rewind broke off half way: only Reclone helps
	PostmasterPID     int    // of a living postmaster, guarded or not
	Leftovers         int    // living processes of this instance, the postmaster included
	FreeBytes         uint64 // on the file system of the data directory
}

// Upstream is where a standby streams from; the zero Upstream is nobody.
type Upstream struct {
	Node replication.NodeID
	Host string
	Port int
}

// StartOptions says how to boot.
type StartOptions struct {
	Follow   Upstream
	Minimums Minimums // of the primary; zero values raise nothing
}

// Position is a place in the write-ahead log. Positions compare by timeline first.
type Position struct {
	Timeline replication.Timeline `json:"timeline"`
	LSN      replication.LSN      `json:"lsn"`
}

// Receiver is pg_stat_wal_receiver. A row alone proves nothing: Status must be "streaming".
type Receiver struct {
	PID        int
	Status     string
	SenderHost string
	SenderPort int
	Timeline   replication.Timeline // received_tli
	Flushed    replication.LSN
	Slot       string
}

// Replica is a row of pg_stat_replication.
type Replica struct {
	PID             int
	ApplicationName replication.NodeID
	ClientAddr      string
	State           string // startup, catchup, streaming, backup, stopping
	SyncState       string // async, potential, sync, quorum
	SyncPriority    int
	Sent, Flush     replication.LSN
	Replay          replication.LSN
	ReplyAge        time.Duration // since its last reply; -1 when there was none
}

// Slot is a row of pg_replication_slots.
type Slot struct {
	Name      string
	Ours      bool // made by EnsureSlots
	Physical  bool
	Active    bool
	Restart   replication.LSN
	WALStatus string // reserved, extended, unreserved, lost
	RetainedB int64  // bytes of WAL that it holds back
}

// Facts are what PostgreSQL says of itself, in one probe.
type Facts struct {
	At          replication.Instant // when the probe was sent
	SystemID    string
	Version     int   // server_version_num
	Incarnation int64 // pg_postmaster_start_time, microseconds
	InRecovery  bool
	// Timeline of the WAL that is being written (primary) or replayed (standby, the newest that it is known to be on).
	Timeline replication.Timeline
	Flush    replication.LSN // primary: flushed
	Insert   replication.LSN // primary: inserted
	Received replication.LSN // standby: flushed by the receiver; unknown after a restart until it streams again
	Replayed replication.LSN // standby
	// Position is the place in the WAL that this node has on its disk: GREATEST(received, replayed), or Flush.
	Position     replication.LSN
	Receiver     *Receiver // standby; nil: no receiver
	ReplayPaused bool
	ReplayDelay  bool   // recovery_min_apply_delay is set
	SyncNames    string // synchronous_standby_names, as a fresh session would have it
	Replicas     []Replica
	Slots        []Slot
	Connections  int
	Settings     Minimums
	// Checkpointed: a checkpoint of Timeline has completed, so pg_rewind of every version reads it right.
	Checkpointed bool
	// ReplayComplete: all WAL that was received is replayed, on positive evidence. Ask twice.
	ReplayComplete bool
	// Follows is whom the settings in force name; the zero Upstream is nobody.
	Follows Upstream
}

// Captured is what must be known before a promotion.
type Captured struct {
	NextXID  uint64          // full transaction id; xids at or past it have not committed
	Replayed replication.LSN // end of replay
}

// Promotion is how an epoch began.
type Promotion struct {
	Timeline replication.Timeline
	ForkLSN  replication.LSN // from the history file
	NextXID  uint64          // full transaction id; xids at or past it never committed before the promotion
	Replayed replication.LSN // end of replay
	Already  bool            // it was out of recovery before; NextXID and Replayed are then unknown
}

// Stopped is what a stop left on the disk.
type Stopped struct {
	Clean    bool // the control file says so
	Control  Control
	Timeline replication.Timeline
	End      replication.LSN // end of the shutdown checkpoint's record (clean primary), else end of the valid WAL
}

// CloneOptions says where a copy comes from.
type CloneOptions struct {
	Source   Upstream
	MaxRate  int64                    // bytes per second, 0: not limited
	Progress func(done, total uint64) // bytes; called from one goroutine; may be nil
}

// RewindOptions says how to rejoin a newer timeline. Fork is where the local timeline left the source's history.
type RewindOptions struct {
	Source Upstream
	Fork   Position // the local timeline, and where it forked
}

// Loss reports the WAL that a rewind discards; it is kept in Dir, with this report as loss.json.
type Loss struct {
	Node        replication.NodeID   `json:"node"`
	SystemID    string               `json:"system_id"`
	Timeline    replication.Timeline `json:"timeline"`
	ForkLSN     replication.LSN      `json:"fork_lsn"`
	EndLSN      replication.LSN      `json:"end_lsn"`
	Bytes       int64                `json:"bytes"`
	Commits     int                  `json:"commits"` // transactions committed past the fork
	FirstCommit string               `json:"first_commit,omitempty"`
	LastCommit  string               `json:"last_commit,omitempty"`
	Dir         string               `json:"dir,omitempty"`
	Files       []string             `json:"files,omitempty"`
	At          time.Time            `json:"at"`
}

// UpstreamFacts are what another server says over a replication connection.
type UpstreamFacts struct {
	SystemID   string
	Timeline   replication.Timeline
	Flush      replication.LSN // xlogpos of IDENTIFY_SYSTEM: the flush position
	History    replication.History
	InRecovery bool
	Minimums   Minimums
	// The rest is asked over an ordinary connection; unknown where that fails.
	Checkpointed bool            // a checkpoint of Timeline has completed
	WALFrom      replication.LSN // start of the oldest WAL segment that it still has
}

// Deadline is when the guard kills the instance, see package guard.
type Deadline = guard.Deadline

// Processes is what runs of the instance: level-triggered news from the kernel.
type Processes struct {
	Guard      int // pid, 0: none attached
	Postmaster int // pid, 0: none
	// StartTime is the postmaster's start in clock ticks since boot (/proc/PID/stat), which with the pid names it.
	StartTime uint64
	Deadline  Deadline // as the guard told last
	// Fenced counts how often this agent or the guard proved the instance dead to the last process.
	Fenced uint64
	// LastExit describes how the last postmaster ended.
	LastExit string

	proofs, seq uint64 // of the guard's state; proofs are counted into Fenced
}
