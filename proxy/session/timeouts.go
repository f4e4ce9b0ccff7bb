package session

import (
	"time"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// Timeouts bound what may take long; 0 is no bound. They are looked at with each Tick, and each belongs to what is in
// progress then: nothing is left over from a statement or transaction that has ended.
type Timeouts struct {
	// Query is from the first byte of a turn that was written to a server to its ReadyForQuery. Its statement is
	// cancelled (57014); if the server does not answer within CancelGrace, its connection is given up. A COMMIT is let be.
	Query       time.Duration
	CancelGrace time.Duration
	// Transaction is from the first byte of a transaction to the end of its last statement: the session is ended (25P04).
	Transaction time.Duration
	// IdleInTransaction is how long a client may leave a transaction open without a statement: the session is ended (25P03).
	IdleInTransaction time.Duration
	// ClientIdle is how long a client may say nothing outside a transaction: the session is ended (57P05).
	ClientIdle time.Duration
	// QueryWait is how long a turn waits while its pool has no free connection (53300; the session goes on). While there
	// is no server that might take it, or if this is 0, Config.HoldTimeout counts.
	QueryWait time.Duration
	// QueryWaitNotify is after how long of waiting for a server the client gets a notice.
	QueryWaitNotify time.Duration
	// Message is from the first chunk of a client's message that comes in several to its last, and a second more for each
	// messageRate bytes: the session is ended (08P01). Times at which the session does not read do not count.
	Message time.Duration
	// ClientRead is how long a client may leave untaken what is written to it: the session is ended.
	ClientRead time.Duration
}

// timeouts are those of the moment.
func (c *Config) timeouts() (t Timeouts) {
	if c.Timeouts != nil {
		t = *c.Timeouts.Load()
	}
	return t
}

// messageRate is the least rate at which a client must send a large message, in bytes a second.
const messageRate = 64 << 10

// passed reports whether limit has passed since an instant; never for a limit or an instant of 0.
func passed(now, since replication.Instant, limit time.Duration) bool {
	return limit > 0 && since != 0 && now.Sub(since) >= limit
}

// tickIdle is the Tick of a session in which nothing is in progress; it reports whether that is all there is to do.
func (s *Session) tickIdle(now replication.Instant) bool {
	return s.phase != phaseReady || !passed(now, s.quietSince, s.cfg.timeouts().ClientIdle)
}

// tick looks at the timeouts.
func (s *Session) tick(now replication.Instant, out *Actions) {
	if s.phase != phaseReady {
		return
	}
	t := s.cfg.timeouts()
	if s.tickClient(now, out) {
		return
	}
	inTransaction := s.status != wire.StatusIdle || s.inTx
	switch {
	case s.waiting:
		s.tickWaiting(now, out)
	case s.srv != nil && s.ledger.Len() > 0:
		s.tickRunning(now, out)
	case len(s.pend) > 0 || s.group || s.clientChunk != chunkNone: // the turn has begun
	case inTransaction && passed(now, s.quietSince, t.IdleInTransaction):
		s.kill(errIdleInTransaction, out)
	case !inTransaction && passed(now, s.quietSince, t.ClientIdle):
		s.kill(errClientIdle, out)
	}
	if s.phase == phaseReady && s.srv != nil && inTransaction && passed(now, s.watch.transaction, t.Transaction) &&
		!s.commitOutstanding() {
		if s.ledger.Len() > 0 {
			out.cancelServer()
		}
		s.kill(errTransactionTimeout, out)
	}
}

// tickClient looks at a client that keeps the session in the middle of something; it reports whether it was ended for it.
func (s *Session) tickClient(now replication.Instant, out *Actions) bool {
	t := s.cfg.timeouts()
	switch {
	case s.clientChunk == chunkNone || s.stopped[Client] != 0:
		s.messageSince = now
	case t.Message > 0 && passed(now, s.messageSince, t.Message+time.Duration(s.messageLength/messageRate)*time.Second):
		s.kill(errMessageTimeout, out)
		return true
	}
	if passed(now, s.fullSince, t.ClientRead) {
		s.kill(errClientRead, out)
		return true
	}
	return false
}

// tickWaiting looks at a turn that waits for a server.
func (s *Session) tickWaiting(now replication.Instant, out *Actions) {
	t := s.cfg.timeouts()
	if !s.notified && passed(now, s.since, t.QueryWaitNotify) {
		s.notified = true
		notice := noticeQueued
		if s.heldBack(now) {
			notice = noticeHeld
		}
		out.put(Client, wire.AppendNoticeResponse(out.own(Client), *notice))
	}
	switch {
	case s.heldBack(now):
		s.queuedSince = 0
	case s.queuedSince == 0:
		s.queuedSince = now
	case passed(now, s.queuedSince, t.QueryWait):
		s.failTurn(errQueryWait, out)
	}
}

// heldBack reports whether there is no primary that a server connection could be granted on. (A read may still wait for
// a free connection to a standby: it is as well held.)
func (s *Session) heldBack(now replication.Instant) bool {
	view := s.view()
	return !view.Writable() || !s.cfg.Gate.Allows(view.Epoch, now)
}

// tickRunning looks at a turn whose answer is owed.
func (s *Session) tickRunning(now replication.Instant, out *Actions) {
	t := s.cfg.timeouts()
	switch {
	case !passed(now, s.watch.turn, t.Query):
	case s.timedOutAt == 0:
		if _, ok := s.CancelTarget(); ok {
			s.timedOutAt = now
			s.cancelServer(now, out)
		}
	case passed(now, s.timedOutAt, t.CancelGrace) && !s.commitOwed():
		s.retry = retry{} // it would take as long elsewhere
		s.flushHeld(out)
		s.trim(out)
		out.detach(Discard, "a cancelled statement goes on")
		s.serverGone(now, errQueryTimeout, out)
	}
}
