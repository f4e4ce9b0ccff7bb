package session

import (
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Side names one of the two connections of a session.
type Side uint8

// The two sides.
const (
	Client Side = iota
	Server
)

// EventKind says what happened.
type EventKind uint8

// The kinds of Event. The comment names the fields of Event that are set.
const (
	// Startup: the client's StartupMessage arrived; Bytes is the packet after its 4 length bytes (protocol version and
	// parameters). SSLRequest, GSSENCRequest and CancelRequest are the driver's (wire.ParseStartup tells them apart).
	Startup EventKind = iota + 1
	// AuthResult: the conversation that Authenticate asked for has ended; Auth.
	AuthResult
	// Frame: (a chunk of) one message arrived on Side; Type, Length, Bytes, First, Last. See Event.
	Frame
	// Attached: the Need is granted; Attachment.
	Attached
	// AttachFailed: the Need can't be granted and is over; Failure. The session answers the client and goes on.
	AttachFailed
	// ViewChanged: Config.View holds a newer view, or the gate was set. Must be sent to every session for which
	// Busy() is true; harmless elsewhere.
	ViewChanged
	// Deadline: the instant of the last Arm has come. Early or stale deadlines are harmless.
	Deadline
	// Full: more bytes than the driver's limit are unwritten toward Side.
	Full
	// Drained: after Full, the unwritten bytes toward Side are below the limit's low mark.
	Drained
	// Closed: the connection of Side ended (EOF or error; Failure may carry the reason for the log). After
	// Closed{Server} the server connection belongs to the driver again, which drops it; no Discard is emitted for it.
	Closed
	// CancelRequested: a CancelRequest with this session's key arrived. Answered with Actions.CancelServer, with an
	// error to the client (when it was waiting for a server), or with nothing (idle, or a COMMIT is outstanding).
	CancelRequested
	// CancelDone: the CancelRequest that CancelServer asked for is over, whether or not it was delivered: the server
	// connection (still the same one) will not get its signal any more. Must follow each CancelServer.
	CancelDone
	// Tick: about a second has passed since the last one. Must be sent to every session that has logged in, or
	// Config.Timeouts have no effect.
	Tick
	// Shutdown: end this session at the next moment at which no transaction is open and nothing is owed; Failure is
	// what the client is told (FATAL), 57P01 when it is empty.
	Shutdown
	// Kill: end this session now; Failure as for Shutdown.
	Kill
)

// Event is something that happened to a session. Drivers reuse one Event; the session keeps no reference to it.
type Event struct {
	Kind EventKind
	Side Side

	// Frame. Type is the message type; Length is the length of the body (without type and length word); Bytes is
	// the raw chunk: on First it starts with the 5-byte header, else it is the next part of the body. Last marks the
	// end of the message. A message that fits in the driver's read buffer must be delivered whole (First and Last); a
	// larger one may be cut, but the first chunk then holds at least wire.MinFirstChunk bytes.
	// Bytes is borrowed: the session does not keep it after Handle, but Actions may (see Actions.Output).
	Type   byte
	Length int64
	Bytes  []byte
	First  bool
	Last   bool

	Auth       *AuthOutcome // AuthResult
	Attachment Attachment   // Attached
	Failure    Failure      // AttachFailed, Closed, Shutdown, Kill
}

// Failure is an error for the client, in the fields of an ErrorResponse. The zero Failure means none.
type Failure struct {
	SQLSTATE string
	Message  string
	Detail   string
	Hint     string
}

// AuthOutcome is the end of a login conversation.
type AuthOutcome struct {
	OK bool
	// Before is written in front of AuthenticationOk or the error: the last words of the login.
	Before []byte
	// Failure is what the client is told when OK is false (FATAL, then Close).
	Failure Failure
	// Parameters are the values that a server of this database and user reports at login (ParameterStatus), fresh or
	// cached. The session adds what the client asked for and what the endpoint must say.
	Parameters []Parameter
	// ProcessID and Secret go into BackendKeyData; 4 bytes of secret for protocol 3.0, 4 to 256 for 3.2.
	ProcessID uint32
	Secret    []byte
	// PoolMode of this database and user; the zero value is transaction pooling.
	PoolMode PoolMode
	// Reads overrule those of the configuration where they are set.
	Reads *Reads
	// Console: once the session has said its greeting, the driver hands the connection to Hooks.Console.
	Console bool
	// Catalog of the database; nil: only PostgreSQL's own functions are known.
	Catalog Catalog
}

// Catalog shares what is known of a database's functions and views (catalog.Entry). Its methods neither block nor
// allocate, and may be called from any goroutine.
type Catalog interface {
	// Load returns the newest; nil: nothing is known.
	Load() *router.Catalog
	// Defined tells that a transaction has ended that may have changed it.
	Defined()
	// Refuses, Refused and Refuse are the memory of reads that a standby has refused, by router.Fingerprint; while
	// Refuses is false it is empty.
	Refuses() bool
	Refused(fingerprint uint64) bool
	Refuse(fingerprint uint64)
}

// Parameter is a run-time parameter with its value as text.
type Parameter struct{ Name, Value string }

// PoolMode says when a server connection goes back to the pool.
type PoolMode uint8

// The pool modes.
const (
	PoolTransaction PoolMode = iota
	PoolSession
	PoolStatement // as transaction, and BEGIN is refused
)

// Attachment is a granted Need. The server connection is the session's alone until Release, Discard or Closed{Server}.
type Attachment struct {
	// Server holds the facts of the connection. The session reads and changes it while attached; the pool must not.
	Server *ServerFacts
	// Status is what the board said of a standby when it was chosen; the zero Status for a primary.
	Status replication.Status
	// Consistency is Need.Consistency after Require has learned on it; nil: it has not been asked.
	Consistency *router.Consistency
	// Lost tells that the requirement was Lost: the session saw a write that did not survive the change of primary.
	Lost bool
	// Why is that of the choice; Token what a standby had to have replayed; Proof whether it was chosen by its Status, so
	// that a server connection younger than that will not do.
	Why   string
	Token replication.LSN
	Proof bool
}

// Need asks for a server connection. Exactly one is open at a time; it ends with Attached, AttachFailed or CancelNeed.
// The driver chooses with router.Pick (or does as it does), from Config.View and the newest StatusBoard, whenever one
// of them changes; nowhere to run means that the Need stays open: the session enforces hold_timeout itself. A primary
// must not be granted while Config.View is not Writable() or the connection's epoch is not the view's. It is a value: it
// may be copied and read by another goroutine.
type Need struct {
	// Kind is Read when the turn may run on a standby. router.Write with TargetReplica is a session that insists on
	// replicas: Pick sends it to a standby, which refuses what it must.
	Kind   router.Kind
	Target router.Target
	Level  router.Level
	// Consistency is what the session must be able to see: Consistency.Require(Level, Arrival, view, board) gives the
	// Requirement for router.Pick.
	Consistency router.Consistency
	Arrival     replication.Instant // when the turn arrived
	MaxLag      time.Duration       // as for router.Limits
	MaxLagBytes int64
	Fallback    router.Fallback
	Wait        time.Duration // how long after Arrival a standby may be waited for
	Tag         string
	// Proven is the standby whose connection was too young, and ProvenAfter when that was opened: see router.Input.
	Proven      replication.NodeID
	ProvenAfter replication.Instant
	// Tried are the standbys that have failed the turn; it is not changed, but replaced. See router.Input.
	Tried []replication.NodeID
	// Again is the ID of a server connection (ServerFacts) that is to be preferred if it is idle: what the turn asks for was
	// left there. 0: any will do.
	Again uint64
	// Ticket orders sessions that wait for the same thing: lower first. It is kept when a turn is requeued.
	Ticket replication.Instant
}

// AuthRequest is what a StartupMessage asked for.
type AuthRequest struct {
	User     string
	Database string
	// Parameters are the client's other startup parameters in order, options parsed into settings.
	Parameters []Parameter
	Protocol   uint32 // 3<<16|0 or 3<<16|2: what was negotiated
	// Replication is on (physical), database (logical), or empty for an ordinary session. The driver joins such clients to
	// a server itself.
	Replication string
}

// Streams reports whether the client asks for a replication connection.
func (r *AuthRequest) Streams() bool { return r.Replication != "" }

// ReplicationWord is PgBouncer's word for what a client asks for.
func (r *AuthRequest) ReplicationWord() string {
	switch {
	case r == nil || r.Replication == "":
		return "none"
	case r.Replication == "database":
		return "logical"
	default:
		return "physical"
	}
}

// Detach says what becomes of the attached server connection.
type Detach uint8

// The ways to detach.
const (
	Keep Detach = iota
	// Release: the connection is clean (status I, nothing owed) and may serve others.
	Release
	// Discard: the connection must be closed (Actions.Reason says why); PostgreSQL rolls back what is open.
	Discard
)

// ReadChange changes whether the driver reads from a side.
type ReadChange uint8

// The changes. Both sides of a fresh session are read; a server is read from Attached on.
const (
	ReadAsBefore ReadChange = iota
	StopReading
	ResumeReading
)

// Actions is what a driver must do after Handle. It is owned by the driver, which reuses it, and filled by Handle.
//
// Output accumulates: a driver may call Handle for several frames of one read before it writes Output, as long as
// Control() is false. When Control() is true it must carry out everything now, in this order: Output(Server) to the
// attached server, Output(Client), CancelServer, CancelNeed, Detach, Need, Authenticate, Arm, Read changes, Close; and
// then call Reset before the next Handle. Full and Drained events are raised after writes as needed.
type Actions struct {
	output [2]output
	spare  [][]byte // buffers that sessions use for a turn: idle sessions own none
	works  []*work  // likewise

	Authenticate *AuthRequest // run the login conversation; see Session.Handle
	Need         *Need        // points into the session, valid until the next Handle
	CancelNeed   bool         // withdraw the open Need; an Attached that crosses it must be given back by the driver
	CancelServer bool         // send a CancelRequest for the attached server; CancelDone must follow
	Detach       Detach
	Reason       string // of Discard, for logs and metrics
	Arm          bool   // set the session's only timer to ArmAt (0: disarm)
	ArmAt        replication.Instant
	Read         [2]ReadChange
	Close        bool // after Output(Client) is written (bounded by the driver's linger), end the session
	control      bool
}

// Config is what sessions of one listener share. It is read-only after the first New, and must not be copied.
type Config struct {
	Gate *replication.Gate
	View *atomic.Pointer[replication.View]

	Target       router.Target // of the listener: TargetAuto, TargetPrimary or TargetReplica
	Reads        Reads         // of the listener, where they are set
	Defaults     Reads         // for what neither the client nor the listener nor the login says
	LostWrites   LostWrites
	ReturnWait   time.Duration // how long a read at session may wait for a standby when the one before it ran on the primary, too; 0: not at all
	HoldTimeout  time.Duration // how long a turn waits for a server
	GateRecheck  time.Duration // how often a withheld acknowledgement looks at the gate again (10 ms)
	MaxCollected int           // bytes of client frames collected while detached; beyond, the turn is unknown (64 KB)
	MaxHeldReply int           // bytes of a standby's reply withheld for a retry on the primary (16 KB)
	MaxSettings  int           // remembered parameters per session (100)
	MaxPrepared  int           // prepared statements per session (10000)
	Failures     *Codes        // counts the errors that sessions raise themselves; nil: nobody wants to know
	// ResetQuery makes a server connection that a client in session pooling has left fit for others (DISCARD ALL).
	ResetQuery string
	Timeouts   *atomic.Pointer[Timeouts] // may change; nil: none
	Processes  Processes                 // nil: what clients say of processes is not understood

	shared interner
}

// State is what a session is doing, for SHOW CLIENTS.
type State uint8

// The states.
const (
	StateLogin State = iota
	StateIdle
	StateWaiting // for a server
	StateActive  // a server is attached
	StateClosing
)

// Info describes a session for SHOW CLIENTS, the API and the drain report.
type Info struct {
	// LastEvent is when anything happened last; 0 when the session is idle and has forgotten it.
	LastEvent                   replication.Instant
	User, Database, Application string
	State                       State
	InTransaction               bool
	// Held: waiting for the primary while there is no writable one.
	Held         bool
	WaitingSince replication.Instant // 0 unless waiting
	// Pinned is why the session keeps its server connection; empty when it does not.
	Pinned     string
	Target     router.Target
	Level      router.Level
	Server     *ServerFacts // nil when detached
	Statements int          // prepared statements of this client
	Turns      uint64       // turns answered
	Retried    uint64       // turns run again elsewhere
	Failed     uint64       // turns answered with an error of walgate's own
}
