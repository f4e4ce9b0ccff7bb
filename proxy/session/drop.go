package session

import (
	"github.com/walgate/walgate/proxy/wire"
)

// failTurn answers the turn that waits with an error. Nothing of it has been written.
func (s *Session) failTurn(why *wire.ErrorFields, out *Actions) {
	if s.waiting {
		s.waiting = false
		out.CancelNeed, out.control = true, true
	}
	s.since, s.queuedSince, s.notified = 0, 0, false
	if s.skip || s.owedNothing() {
		return
	}
	s.erred++
	s.say(why, out)
	if s.reopening != nil {
		s.reopening, s.deferred = nil, false
		s.status, s.ghost = wire.StatusFailed, true // it was told
	}
	if s.srv != nil && (s.ledger.Len() > 0 || s.group || s.status != wire.StatusIdle) {
		if s.status != wire.StatusIdle {
			s.status, s.ghost = wire.StatusFailed, true
		}
		s.letGo(Discard, "turn could not be written", out)
		s.lostPins()
	}
	s.retry = retry{}
	s.dropTurn(out)
}

// owedNothing reports whether what waits is copy data without a copy, to which nobody expects an answer.
func (s *Session) owedNothing() bool {
	at := s.sent
	for at < len(s.pend) {
		var cutter wire.Cutter
		p, n, err := cutter.Cut(s.pend[at:], true)
		if err != nil || n == 0 || p.Type != 'd' && p.Type != 'c' && p.Type != 'f' {
			return false
		}
		at += n
	}
	return at > s.sent
}

// dropTurn drops the rest of the turn that waits, after its error, and answers its end.
func (s *Session) dropTurn(out *Actions) {
	at := s.sent
	for at < len(s.pend) {
		var cutter wire.Cutter
		p, n, err := cutter.Cut(s.pend[at:], true)
		if err != nil || n == 0 {
			break
		}
		at += n
		ends := p.Type == 'Q' || p.Type == 'F' || p.Type == 'S'
		if !p.Last {
			s.clientChunk, s.dropped = chunkDrop, 0
			if ends {
				s.dropped = p.Type
			} else {
				s.skip = true
			}
			s.consume(at, out)
			return
		}
		if ends {
			s.tellReady(out)
			for at+wire.HeaderLen <= len(s.pend) && s.pend[at] == 'H' {
				at += wire.HeaderLen // the next turn does not begin with Flush
			}
			s.consume(at, out)
			return
		}
	}
	s.skip = true
	s.consume(len(s.pend), out)
}

// tellReady writes ReadyForQuery.
func (s *Session) tellReady(out *Actions) {
	out.put(Client, wire.AppendReadyForQuery(out.own(Client), s.status))
}
