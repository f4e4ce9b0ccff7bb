package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// serverReady takes ReadyForQuery.
func (s *Session) serverReady(now replication.Instant, p wire.Piece, out *Actions) {
	o := s.ledger.Head()
	if o == nil && s.broken { // it answers the Sync that was to be ignored
		s.ledger.Push(wire.Owed[request]{Kind: wire.OwedSync})
		s.group, s.granted, s.writes = false, false, false
		o = s.ledger.Head()
	}
	if o == nil || !o.Kind.EndsTurn() || len(p.Bytes) != wire.HeaderLen+1 {
		s.serverProtocol(out)
		return
	}
	r, injected := o.Ref, o.Injected
	status := p.Bytes[wire.HeaderLen]
	if fits, _ := s.ledger.Accept('Z'); !fits {
		s.serverProtocol(out)
		return
	}
	s.ledger.Pop()
	s.settleNames()
	if injected {
		s.injectedReady(r, status, out)
		s.answerLocals(out)
		return
	}
	s.noteHealth(now)
	if s.retry.dropped {
		s.runAgain(status, out)
		return // advance asks for another
	}
	s.srv.Meter.answered(&s.watch, now, status == wire.StatusIdle, s.ledger.Len() > 0)
	unbegun := s.swift && status == wire.StatusIdle // BEGIN was refused, or could not be read with what is behind it
	begin := s.reopening
	s.turnAnswered(status, out)
	s.quietSince = now
	if s.localOnly {
		s.tellLocalOnly(out)
	}
	if s.mode == PoolStatement && status != wire.StatusIdle { // by a statement too large to look at, or a function
		s.erred++
		s.end(errBlockOpened, out)
		return
	}
	s.tellReports(out)
	if unbegun {
		s.failNowhere(begin)
		s.tellReady(out)
	} else {
		s.pass(p.Bytes, out)
	}
	s.answerLocals(out)
	if s.broken { // another ReadyForQuery may follow
		out.detach(Discard, "what it still answers is unknown")
		s.serverGone(now, nil, out)
		return
	}
	if status == wire.StatusIdle {
		s.opening = nil
	}
	if status == wire.StatusIdle && s.ledger.Len() == 0 && !s.group {
		s.endTurn(now, out)
		if unbegun && s.srv != nil {
			s.reopen(out) // the server is kept
		}
	}
}

// runAgain gives the server back whose answer to the turn was dropped; status is that of its ReadyForQuery.
func (s *Session) runAgain(status byte, out *Actions) {
	s.retry.count++
	s.retried++
	s.srv.Meter.retried()
	s.sent = 0
	s.carryOver()
	switch {
	case s.retry.scrub:
		s.letGo(Discard, "it refused a write", out)
	case status != wire.StatusIdle: // the turn has opened a transaction
		s.letGo(Discard, "its transaction begins anew elsewhere", out)
	default:
		s.letGo(Release, "", out)
	}
}

// turnAnswered does what the end of a turn means for the session.
func (s *Session) turnAnswered(status byte, out *Actions) {
	s.status = status
	if status == wire.StatusIdle {
		if s.failed {
			s.settings.rolledBack()
		} else {
			s.settings.committed()
		}
		s.settlePins()
		s.settleDefinitions(s.ledger.Len() == 0 && !s.group)
		s.portals.ended()
		if s.defined {
			s.defined = false
			s.catalog.Defined()
		}
	}
	if s.ledger.Len() == 0 && !s.group {
		s.inTx, s.unsure = status != wire.StatusIdle, false
	}
	s.failed, s.swallow = false, false
	s.reopening, s.deferred, s.swift = nil, false, false
	s.retry = retry{}
	s.timedOutAt = 0
	s.flushHeld(out)
	s.turns++
}

// injectedReady ends an injected query.
func (s *Session) injectedReady(r request, status byte, out *Actions) {
	switch {
	case r.bits&rollsBack != 0:
		if r.bits&resets != 0 {
			s.settings.committed()
			s.settlePins()
		}
		if status == wire.StatusIdle && !s.pins.any() {
			s.settings.rolledBack()
			s.letGo(Release, "", out)
		}
		s.end(nil, out)
	case r.bits&reopens != 0:
		s.reopened(status, out)
	case r.bits&abandons != 0:
		s.abandoned(status, out)
	case r.bits&restores == 0:
	case s.restoreError == nil:
		if status == wire.StatusIdle {
			s.settings.base.have = s.settings.now.have
		}
		s.preparing, s.unproven, s.refusals = false, false, 0
	default:
		s.restoreFailed(out)
	}
}

// maxRefusals bounds how many servers that were set up for others a turn tries.
const maxRefusals = 3

// restoreFailed tells that the session's settings are refused by a server, unless what others have set there may be the
// reason.
func (s *Session) restoreFailed(out *Actions) {
	why, over := s.restoreError, s.settings.base.have != nil
	s.restoreError = nil
	s.letGo(Discard, "settings were refused", out)
	s.lostPins()
	if over && (s.status == wire.StatusIdle || s.deferred) && why.Code != errCanceled.Code && s.refusals < maxRefusals {
		s.refusals++
		return // advance asks for another
	}
	s.refusals = 0
	if s.status != wire.StatusIdle {
		s.status, s.ghost = wire.StatusFailed, true
	}
	if s.unproven && why.Code != errCanceled.Code {
		why.Severity = severityFatal
		s.end(why, out)
		return
	}
	s.failTurn(why, out)
}

// answerLocals gives the answers of our own that are due.
func (s *Session) answerLocals(out *Actions) {
	for {
		o := s.ledger.Head()
		if o == nil || o.Kind != wire.OwedLocal {
			return
		}
		answer := o.Ref.answer
		s.ledger.Pop()
		if s.retry.dropped || s.swallow {
			continue
		}
		if s.retry.possible {
			if s.held == nil {
				s.held = out.take()
			}
			s.held = wire.AppendEmpty(s.held, answer)
		} else {
			out.put(Client, wire.AppendEmpty(out.own(Client), answer))
		}
	}
}
