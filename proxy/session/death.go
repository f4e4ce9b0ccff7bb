package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// viewChanged looks at what a newer view, or a newer state of the gate, means for the server connection.
func (s *Session) viewChanged(now replication.Instant, out *Actions) {
	if s.phase != phaseReady || !onPrimary(s.srv) {
		return
	}
	view := s.view()
	switch {
	case view.Epoch > s.srv.Epoch:
		out.detach(Discard, "epoch has passed")
		s.serverGone(now, nil, out)
	case view.Handoff.CancelOpen && (s.status != wire.StatusIdle || s.inTx) && !s.commitOutstanding():
		if s.ledger.Len() > 0 {
			out.cancelServer()
		}
		out.detach(Discard, "drained")
		s.serverGone(now, errTransactionEnded, out)
	default:
		s.letThrough(now, out)
	}
}

// deadline is called when the timer has run out.
func (s *Session) deadline(now replication.Instant, out *Actions) {
	s.armed = 0
	if s.phase == phaseLeaving {
		s.end(nil, out)
		return
	}
	if s.phase == phaseReady && s.cancelling != 0 {
		at := s.cancelling.Add(cancelTime)
		if now >= at {
			s.cancelLost(now, out)
			return
		}
		s.armBy(at, out)
	}
	if s.phase != phaseReady || s.since == 0 {
		return
	}
	if len(s.withheld) > 0 {
		s.letThrough(now, out)
		return
	}
	until := s.since.Add(s.cfg.HoldTimeout)
	if s.waiting && s.queuedSince != 0 && s.cfg.timeouts().QueryWait > 0 {
		until = max(until, s.queuedSince.Add(s.cfg.timeouts().QueryWait+s.cfg.HoldTimeout)) // tickWaiting comes first
	}
	if now < until {
		s.armBy(until, out)
		return
	}
	switch {
	case s.srv != nil && (s.clientOwed() > 0 || s.group):
		out.detach(Discard, "gate stayed shut")
		s.serverGone(now, nil, out)
	case s.waiting || s.sent < len(s.pend):
		s.failTurn(errHoldTimeout, out)
	}
}

// commitOutstanding reports whether anything that may have committed is unanswered.
func (s *Session) commitOutstanding() bool {
	for i := range s.ledger.Len() {
		if s.ledger.At(i).Ref.bits&commits != 0 {
			return true
		}
	}
	return false
}

// serverFatal takes an error after which the server closes the connection.
func (s *Session) serverFatal(now replication.Instant, t wire.Trouble, p wire.Piece, out *Actions) {
	if string(t.Code) == errAdminShutdown.Code && onPrimary(s.srv) && s.retry.again {
		s.retry.possible = false // a primary that stops ends it once; this is somebody who wants it to end
	}
	gone := (deadly(t.Code) || s.retry.possible || s.phase != phaseReady || string(t.Code) == "40001") && !s.endsItself(t)
	if o := s.ledger.Head(); o != nil && string(t.Severity) == "FATAL" && s.surelyUndone(o) {
		s.dismissal = &wire.ErrorFields{Severity: severityError, Code: string(t.Code), Message: string(t.Message),
			Detail: "The server ended its connection during the statement, which has no effect.",
			Hint:   "The session is intact."}
	}
	out.detach(Discard, "server ended the connection")
	if gone && ails(t.Code) && s.clientOwed() > 0 {
		s.noteIllness(now)
	}
	switch {
	case s.phase == phaseLeaving:
		s.leave(out)
		s.end(nil, out)
	case gone:
		s.serverGone(now, nil, out)
	default: // a limit of the server's own, like idle_in_transaction_session_timeout: the client is told as it is
		s.srv.Meter.failed(t.Code)
		s.flushHeld(out)
		s.pass(p.Bytes, out)
		s.leave(out)
		s.end(nil, out)
	}
}

// endsItself reports whether a server ends because the client's own statement may have asked for it.
func (s *Session) endsItself(t wire.Trouble) bool {
	o := s.ledger.Head()
	return string(t.Code) == errAdminShutdown.Code && s.phase == phaseReady && o != nil && !o.Injected &&
		o.Ref.flags.Has(router.Processes)
}

// surelyUndone reports whether a request that is answered with FATAL has no effect. PostgreSQL ends a connection so only
// where it takes interrupts, and from the begin of a commit to its answer it takes none (CommitTransaction in
// src/backend/access/transam/xact.c; the end of a wait for a standby comes as a warning). What stands behind the request
// was not even read. A PANIC may come in the middle of everything.
func (s *Session) surelyUndone(o *wire.Owed[request]) bool {
	switch o.Ref.cmd {
	case router.CommandCommit, router.CommandPrepareTx, router.CommandTwoPhase:
		return true
	case router.CommandMany:
		return !o.Ref.flags.Has(router.TxControl | router.MayCommit)
	}
	if o.Kind == wire.OwedSync && s.pins.flags.Has(router.PinListen) {
		return false // notifications are read behind the commit, before ReadyForQuery
	}
	return !o.Ref.flags.Has(router.MayCommit)
}

// serverGone decides what becomes of the session whose server connection has ended (or is being discarded: then the
// caller has said so). cause is what an open transaction is told instead of the usual.
func (s *Session) serverGone(now replication.Instant, cause *wire.ErrorFields, out *Actions) {
	if s.serverChunk == chunkPass { // inside a message to the client: nothing can be told
		s.undoAll()
		s.leave(out)
		s.end(nil, out)
		return
	}
	if cause == nil {
		cause = errTransactionLost
	}
	s.touched()
	owed := s.clientOwed()
	if !s.retry.possible && !s.retry.dropped {
		s.since = 0
	}
	switch {
	case owed == 0 && !s.group && s.clientChunk != chunkPass:
		switch s.carryOver(); {
		case s.status == wire.StatusIdle:
		case s.reopening != nil && (s.deferred || s.lazy) && s.retry.count < maxRetries:
			s.retry.count++ // nothing is lost that can't begin anew
		default:
			s.loseTransaction(cause)
		}
	case s.retry.possible || s.retry.dropped:
		if !s.retry.dropped {
			s.noteTried()
		}
		s.retry.count++
		s.retried++
		s.sent = 0
		s.carryOver()
		if s.since == 0 {
			s.since = now
		}
		s.flushNothing(out)
	default:
		s.failOwed(cause, out)
	}
	s.undoAll()
	s.lostPins()
	s.settings.lost()
	s.leave(out)
}

// flushNothing drops what was held back: the turn runs again.
func (s *Session) flushNothing(out *Actions) {
	out.give(s.held)
	s.held = nil
}

// clientOwed counts the requests of the client that are unanswered.
func (s *Session) clientOwed() (n int) {
	for i := range s.ledger.Len() {
		if !s.ledger.At(i).Injected {
			n++
		}
	}
	return n
}

// loseTransaction makes the open transaction one that has failed; the client will be told with its next turn.
func (s *Session) loseTransaction(cause *wire.ErrorFields) {
	s.ghost, s.reopening, s.deferred = true, nil, false
	if s.status == wire.StatusInTransaction {
		s.untold = cause
	}
}

// lostPins notes that state was lost with the server connection.
func (s *Session) lostPins() {
	if !s.pins.any() {
		return
	}
	s.pins = pins{}
	if s.untold == nil && !s.ghost {
		s.untold = errStateLost
	}
	s.prepared.giveUpOwn()
}

// undoAll takes back what unanswered requests would have done.
func (s *Session) undoAll() {
	for i := s.ledger.Len() - 1; i >= 0; i-- {
		s.undo(s.ledger.At(i))
	}
}

// failOwed answers everything that is unanswered, turn by turn.
func (s *Session) failOwed(cause *wire.ErrorFields, out *Actions) {
	s.flushHeld(out)
	s.erred++
	told := s.status == wire.StatusFailed
	silent := s.swallow || s.failed && s.ledger.Head() != nil && s.ledger.Head().Kind.EndsTurn()
	var inTurn bits
	open := s.group || s.clientChunk == chunkPass
	first := true // of its turn
	n := s.ledger.Len()
	for i := range n {
		o := s.ledger.At(i)
		if o.Injected {
			continue
		}
		inTurn |= o.Ref.bits
		if !o.Kind.EndsTurn() {
			first = false
			continue
		}
		if first && (o.Kind == wire.OwedSync && inTurn&commits == 0 || o.Ref.bits&finished != 0) &&
			s.status == wire.StatusIdle {
			silent, inTurn = true, 0 // nothing but ReadyForQuery is missing
		}
		s.failOne(inTurn, silent, &told, cause, out)
		s.tellReady(out)
		inTurn, silent, first = 0, false, true
		if i == n-1 && !s.group {
			open = s.clientChunk == chunkPass && o.Kind != wire.OwedQuery && o.Kind != wire.OwedFunction
		}
	}
	if open {
		if !s.ledger.Skipping() {
			s.failOne(inTurn, silent, &told, cause, out)
		}
		s.skip = true
	}
	if s.clientChunk == chunkPass {
		s.clientChunk, s.dropped = chunkDrop, 0
	}
	s.ghost = s.status == wire.StatusFailed
	s.reopening, s.deferred = nil, false
}

// failOne tells the error of one turn and sets the status that follows from it.
func (s *Session) failOne(inTurn bits, silent bool, told *bool, cause *wire.ErrorFields, out *Actions) {
	why := errServerLost
	switch {
	case inTurn&commits != 0 && onPrimary(s.srv): // a standby commits nothing
		why = errUnknownOutcome
		if s.dismissal != nil {
			why = s.dismissal
		}
		s.status = wire.StatusIdle
		*told = false
	case s.status == wire.StatusIdle:
		if cause == errQueryTimeout {
			why = cause
		} else if s.dismissal != nil {
			why = s.dismissal
		}
	case inTurn&exits != 0:
		s.status = wire.StatusIdle
		*told = false
		out.put(Client, wire.AppendCommandComplete(out.own(Client), "ROLLBACK"))
		return
	default:
		s.status = wire.StatusFailed
		why = cause
		if *told {
			why = errAborted
		}
		*told = true
	}
	if !silent {
		s.say(why, out)
	}
}
