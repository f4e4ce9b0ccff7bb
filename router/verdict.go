package router

// Kind says whether a query string may run on a standby.
type Kind uint8

// The kinds. Write is the zero value: it means "not surely a read".
const (
	Write Kind = iota
	Read
)

// String returns the word for logs and metrics.
func (k Kind) String() string {
	if k == Read {
		return "read"
	}
	return "write"
}

// Command names what a single statement is, as far as a session has to know.
type Command uint8

// The commands. CommandOther is the zero value: a statement that only its Kind and Flags describe (INSERT, CREATE ...).
const (
	CommandOther  Command = iota
	CommandEmpty          // nothing but white space and comments
	CommandMany           // several statements: only Kind, Statements, Flags and Hint are filled in
	CommandSelect         // SELECT, TABLE, VALUES, WITH
	CommandExplain

	CommandBegin        // BEGIN, START TRANSACTION; Flags TxReadOnly, TxReadWrite, TxSerializable, TxRepeatableRead
	CommandCommit       // COMMIT, END; Flag TxChain with AND CHAIN
	CommandRollback     // ROLLBACK, ABORT; Flag TxChain with AND CHAIN
	CommandRollbackTo   // Name is the savepoint
	CommandSavepoint    // Name is the savepoint
	CommandRelease      // Name is the savepoint
	CommandPrepareTx    // PREPARE TRANSACTION
	CommandTwoPhase     // COMMIT PREPARED, ROLLBACK PREPARED
	CommandSetTx        // SET TRANSACTION; Flags as for CommandBegin
	CommandSetSessionTx // SET SESSION CHARACTERISTICS AS TRANSACTION; Flags as for CommandBegin

	CommandSet              // SET [SESSION] Name = Value, and SELECT set_config('Name', 'Value', false)
	CommandSetLocal         // SET LOCAL Name = Value, and SELECT set_config('Name', 'Value', true)
	CommandSetConstraints   // SET CONSTRAINTS
	CommandSetRole          // SET [SESSION] ROLE Value; Flag ValueDefault with NONE
	CommandSetSessionAuth   // SET [SESSION] SESSION AUTHORIZATION Value; Flag ValueDefault with DEFAULT
	CommandReset            // RESET Name, and SET Name TO DEFAULT is CommandSet with ValueDefault
	CommandResetAll         // RESET ALL
	CommandResetRole        // RESET ROLE
	CommandResetSessionAuth // RESET SESSION AUTHORIZATION
	CommandShow             // SHOW Name (SHOW ALL has Name "all")

	CommandDiscardAll
	CommandDiscardTemp
	CommandDiscardPlans
	CommandDiscardSequences

	CommandPrepare       // PREPARE Name [(types)] AS ...; Value is the span of the statement behind AS
	CommandExecute       // EXECUTE Name [(...)]; Value is the span of the parenthesised arguments, if any
	CommandDeallocate    // DEALLOCATE [PREPARE] Name
	CommandDeallocateAll // DEALLOCATE [PREPARE] ALL

	CommandDeclare // DECLARE Name CURSOR; Flag PinHoldCursor if WITH HOLD
	CommandFetch   // FETCH, MOVE
	CommandClose   // CLOSE Name
	CommandCloseAll

	CommandListen      // LISTEN Name
	CommandUnlisten    // UNLISTEN Name
	CommandUnlistenAll // UNLISTEN *
	CommandNotify

	CommandCopyIn   // COPY ... FROM STDIN
	CommandCopyOut  // COPY ... TO STDOUT
	CommandCopyFile // COPY from or to a file or program of the server

	CommandLoad
	CommandCall
	CommandDo
	CommandLock
	CommandCheckpoint
)

// Flags are facts about a query string; those of several statements are or-ed.
type Flags uint64

// The flags.
const (
	// TxControl: some statement begins, ends or marks a transaction (savepoints included; not SET TRANSACTION).
	TxControl Flags = 1 << iota
	TxReadOnly
	TxReadWrite
	TxSerializable
	TxRepeatableRead
	TxDeferrable
	TxChain
	// MayCommit: the string may commit inside its own run, even when it was sent within an open transaction: COMMIT,
	// PREPARE TRANSACTION, COMMIT PREPARED, CALL, DO.
	MayCommit

	// State: the string changes session state that a pool must carry or undo (SET, PREPARE, LISTEN, temporary ...).
	State
	// LocalState: it changes state that ends with the transaction (SET LOCAL, SET TRANSACTION, SET CONSTRAINTS).
	LocalState
	// Opaque: it may run code that cannot be seen here (CALL, DO, a function that is not PostgreSQL's own).
	Opaque
	// NodeLocal: its answer depends on the server it runs on (pg_stat_activity, pg_backend_pid(), ...).
	NodeLocal
	// Sequence: it uses nextval or setval.
	Sequence

	// The pins: the session must keep its server connection until the named thing is gone.

	PinTempTable    // until DISCARD TEMP or DISCARD ALL
	PinAdvisoryLock // a session-level advisory lock may be held
	PinListen       // until UNLISTEN *
	PinHoldCursor   // until CLOSE
	PinLoad         // LOAD: for good
	PinSeed         // setseed: for good
	PinSnapshot     // pg_export_snapshot: until the transaction ends
	PinLargeObject  // an open large object descriptor: until the transaction ends
	PinState        // a parameter was set whose name or value cannot be read here: until DISCARD ALL

	// AdvisoryUnlockAll: the statement is nothing but SELECT pg_advisory_unlock_all().
	AdvisoryUnlockAll
	// ValueDefault: the value of SET, SET ROLE or SET SESSION AUTHORIZATION is DEFAULT, NONE or FROM CURRENT.
	ValueDefault
	// Unreadable: the text does not end where a statement may end (an open quote), or cannot be read at all.
	Unreadable
	// CopyData: some statement is COPY FROM STDIN or COPY TO STDOUT.
	CopyData
	// Executes: some statement is EXECUTE, EXPLAIN EXECUTE or CREATE TABLE AS EXECUTE. Of a single one, Name is what it
	// executes.
	Executes
	// Defines: some statement creates, alters or drops something, or runs code that may (DO, CALL): what was prepared before
	// may mean something else when it is prepared again.
	Defines
	// Advisory: it takes or gives back advisory locks, of the session or the transaction. A standby has its own.
	Advisory
	// Recalls: it uses currval or lastval, and so asks what its server connection has done before.
	Recalls
	// TxPrepared: some statement is PREPARE TRANSACTION, COMMIT PREPARED or ROLLBACK PREPARED.
	TxPrepared
	// Processes: some statement may name server processes by their ids (pg_terminate_backend, pg_stat_activity ...).
	Processes
	// OwnStatements: some statement looks at the prepared statements of its server connection.
	OwnStatements
)

// Pins is the set of all pinning flags.
const Pins = PinTempTable | PinAdvisoryLock | PinListen | PinHoldCursor | PinLoad | PinSeed | PinSnapshot |
	PinLargeObject | PinState

// Has reports whether any of the given flags is set.
func (f Flags) Has(any Flags) bool { return f&any != 0 }

// Span is a part of the input: sql[Start:End]. The zero Span means "absent".
type Span struct{ Start, End int32 }

// Present reports whether the span was found.
func (s Span) Present() bool { return s.End > s.Start }

// In returns the bytes of sql that the span covers, without copying.
func (s Span) In(sql []byte) []byte { return sql[s.Start:s.End] }

// Verdict is what Classify found out about a query string. The zero Verdict is a write of which nothing is known.
type Verdict struct {
	Kind       Kind
	Command    Command
	Hint       Hint
	Flags      Flags
	Statements int32 // empty ones do not count
	Name       Span  // raw, with its quotes; see AppendName
	Value      Span  // raw, may be a list; see AppendValue
}
