package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// work is the part of a session that exists only while something is in progress: a login, a turn, a transaction, a
// server connection, an error that must still be told. Sessions take it from the driver's Actions and give it back, so
// that an idle session costs next to nothing.
type work struct {
	// The server connection.
	srv        *ServerFacts
	attachment Attachment
	ledger     wire.Ledger[request]
	free       bool // turns may start on srv without asking again
	granted    bool // the turn for which srv was given may start
	copying    bool // the frame in hand is not in the driver's buffer: it can't be lent on
	// inTx is what the transaction status will be when all that was written has been answered, as far as is known; group:
	// frames were written since the last Sync or Query.
	inTx   bool
	unsure bool // what is outstanding may leave the transaction status other than inTx says
	group  bool
	writes bool // the open group has a write outside a transaction: its Sync commits
	failed bool // the turn in progress had an error
	alone  bool // the statement that was completed last ran outside a transaction block
	// ghost: the transaction died with its server; walgate plays the failed transaction. untold is the error that the
	// client must still be told about what it lost.
	ghost  bool
	untold *wire.ErrorFields

	// pend holds client frames: up to sent those of the current turn, kept while it may run again; behind them those
	// that wait.
	pend  []byte
	sent  int
	turn  turn
	need  Need
	retry retry
	// waiting: a Need is open. preparing: a restore of settings must succeed, or the server say what a statement is,
	// before more of the turn is written. since is when the wait for a server (or for the gate) began.
	waiting   bool
	preparing bool
	since     replication.Instant
	watch     stopwatch
	// queuedSince is since when a Need has waited with a primary there; notified: the client was told of the wait.
	queuedSince replication.Instant
	notified    bool
	timedOutAt  replication.Instant // when the turn in progress was cancelled for taking too long; 0: it was not
	cancelling  replication.Instant // when a CancelRequest was sent whose end has not been told; 0: there is none

	clientChunk disposition
	// messageSince is when the client's message of which chunks are still to come began, messageLength that of its body.
	messageSince  replication.Instant
	messageLength int64
	fullSince     replication.Instant // since when the client takes nothing; 0: it does
	serverChunk   disposition
	dropped       byte // type of the client's message that is being dropped, if its end needs an answer
	skip          bool // client frames are dropped up to Sync
	swallow       bool // replies are dropped up to ReadyForQuery (its error has been told already)

	held     []byte // replies that may still be taken back
	withheld []byte // server frames that the gate does not let through

	settings settingState
	portals  portals
	naming   naming
	// asked is the statement of which the server has said what it is there (found), for the client's next frame.
	asked     *statement
	found     outline
	redefines redefinition
	pins      pins
	stale     bool // what the server reports may differ from what the client was told
	shutdown  *wire.ErrorFields
	// hushed: the transaction may hide warnings. advanced: something ran on this server connection that may have advanced
	// a sequence.
	hushed, advanced bool
	// copyPending: a COPY FROM STDIN was sent whose beginning has not been seen; copied: data was sent for the one that has
	// begun; copyFailed: the request for which it was ended.
	copyPending, copied bool
	copyFailed          byte
	// opening is the text that opened the transaction on a standby, as long as it can be taken to the primary; steady: it
	// has one snapshot for all. reopening: it is being taken there; or the transaction has failed, and is on no server.
	opening, reopening []byte
	steady             bool
	// deferred: the transaction of which the client was told has begun nowhere, or its first turn may run again (reopening
	// is what begins it); settled: steady does not depend on the server's defaults; bound: it insists on writing. swift: it
	// begins with the turn in progress. lazy: it is on a standby, until the first turn that does more than to read.
	deferred, settled, bound, swift, lazy bool
	// dismissal is the error with which the server ended the connection while it did nothing that lasts.
	dismissal *wire.ErrorFields
	// localOnly: a commit of the turn was made, but its wait for the standby was cancelled.
	localOnly bool
	ill       bool // the standby has failed the turn for reasons of its own
	// defined: the transaction has changed something that the catalog may tell of.
	defined bool
	// restoreError is why a server refused the session's settings, or to open its transaction; broken: what the server connection still answers is
	// not known for sure, so that nothing else may use it.
	restoreError *wire.ErrorFields
	// async: something that is under way may commit without waiting for the flush. attachedIn is the view's epoch when the
	// server was attached. proven is the standby of a connection that was too young, and provenAfter when that was opened.
	async       bool
	attachedIn  replication.Epoch
	proven      replication.NodeID
	provenAfter replication.Instant
	refusals    uint8 // of settings, in a row
	broken      bool
	clock       replication.Instant // when the event in hand came
}

// begin makes w the work of s.
func (s *Session) begin(w *work) {
	s.work = w
	w.settings.begin(s.want, s.startup, &s.cfg.shared)
}

// rest gives the work back if nothing is in progress.
func (s *Session) rest(out *Actions) {
	w := s.work
	if w.srv != nil || w.waiting || w.pend != nil || w.ghost || w.skip || w.untold != nil || w.shutdown != nil ||
		w.clientChunk != chunkNone || s.status != wire.StatusIdle {
		if s.phase != phaseClosed {
			return
		}
	}
	s.want = w.settings.now.want
	s.work = nil
	out.giveWork(w)
}

// reset makes w fit for another session; memory is kept within bounds.
func (w *work) reset() {
	w.ledger.Reset()
	*w = work{ledger: w.ledger}
}

// request is what a session remembers of a request in the ledger.
type request struct {
	cmd    router.Command
	flags  router.Flags
	bits   bits
	answer byte       // OwedLocal: the type of the answer
	stmt   *statement // Parse, Bind, Describe, Execute, Close
	prev   *statement // what a Parse replaced
	effect *effect
	edits  edits  // from the client's text to the one that was sent
	closed string // the canonical name of an injected Close
}

// bits are facts about a request.
type bits uint32

const (
	commits      bits = 1 << iota // may have committed something when its answer is missing
	exits                         // ends a transaction block
	restores                      // injected: restores settings
	parses                        // prepares a canonical statement on the server
	rollsBack                     // injected: the rollback for a client that has left
	outside                       // surely runs outside a transaction block
	finished                      // its last CommandComplete has been passed on
	resets                        // injected: makes the server connection of a client that has left fit for others
	ahead                         // injected: the Sync between a statement that a query needs and the query
	mayFail                       // injected: an error means nothing to the client
	asks                          // injected: asks what a statement is on the server
	changedShape                  // a statement that fails, instead of one that is not what the client was told
	tokens                        // its row is a position, to which the epoch is added
	reopens                       // injected: opens the client's transaction on another server
	elsewhere                     // what a standby does not have, in a transaction that is bound to it: written as a statement that fails
	recalls                       // currval or lastval without what they ask for: written as a statement that fails
	rereads                       // may change the settings by which statements are read
	begins                        // BEGIN stands ahead of it in its query string
	begun                         // the CommandComplete of that has come
	abandons                      // injected: ends a lazy transaction, which goes on elsewhere
	refused                       // a transaction block where there may be none: written as a statement that fails
)
