package session

import (
	"time"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// clientPiece takes a chunk from the client.
func (s *Session) clientPiece(now replication.Instant, p wire.Piece, out *Actions) {
	if s.phase != phaseReady {
		return
	}
	if !p.First {
		s.clientRest(p, out)
		return
	}
	if !p.Last {
		s.messageSince, s.messageLength = now, p.Length
	}
	switch p.Type {
	case 'H':
		if !s.group && len(s.pend) == 0 {
			return // there is nothing to flush, and it would begin a turn that can be failed
		}
	case 'S':
		if s.srv != nil {
			s.skip = false // what comes behind it counts, even if it has to wait
		}
	case 'Q', 'P', 'B', 'E', 'D', 'C', 'F':
	case 'd', 'c', 'f':
		if s.ledger.Len() == 0 && s.sent == len(s.pend) {
			s.noteDropped(p, 0) // PostgreSQL ignores copy data when it does not copy
			return
		}
	case 'X':
		s.clientGone(now, true, out)
		return
	default:
		s.end(errUnknownMessage(p.Type), out)
		return
	}
	switch {
	case s.skip && p.Type != 'S':
		s.noteDropped(p, 0)
	case s.skip && s.srv == nil:
		s.skip = false
		s.tellReady(out)
	case s.srv != nil && s.sent == len(s.pend) && !s.awaitsNames(p.Type, out) && s.mayForward(now, out) && !s.restore(out):
		s.forfeit(out)
		if !s.forward(p, out) {
			s.wait(p, out)
		}
	default:
		s.wait(p, out)
	}
}

// wait keeps a message until it can be written.
func (s *Session) wait(p wire.Piece, out *Actions) {
	s.collect(p, out)
	if !p.Last {
		s.clientChunk = chunkHold
	}
}

// forfeit gives up the chance to run the turn again: the client goes on behind it.
func (s *Session) forfeit(out *Actions) {
	if s.retry.possible {
		s.retry.possible = false
		s.flushHeld(out)
	}
}

// noteDropped drops a message; typ is what must be answered at its end.
func (s *Session) noteDropped(p wire.Piece, typ byte) {
	if !p.Last {
		s.clientChunk, s.dropped = chunkDrop, typ
	}
}

// clientRest takes a later chunk of a message.
func (s *Session) clientRest(p wire.Piece, out *Actions) {
	switch s.clientChunk {
	case chunkHold:
		if s.sent == len(s.pend) && s.srv != nil {
			s.write(p.Bytes, out) // its beginning was written from pend
		} else {
			s.collect(p, out)
		}
	case chunkPass:
		s.write(p.Bytes, out)
	}
	if !p.Last {
		return
	}
	s.clientChunk = chunkNone
	switch s.dropped {
	case 'Q', 'F':
		s.tellReady(out)
	}
	s.dropped = 0
}

// write writes bytes of the frame in hand to the server.
func (s *Session) write(b []byte, out *Actions) {
	if s.copying {
		out.put(Server, append(out.own(Server), b...))
	} else {
		out.pass(Server, b)
	}
}

// clientGone ends the session because its client has left, politely (Terminate) or not.
func (s *Session) clientGone(now replication.Instant, polite bool, out *Actions) {
	if s.waiting {
		s.waiting = false
		out.CancelNeed, out.control = true, true
	}
	switch {
	case s.srv == nil:
	case polite && s.mode == PoolSession && s.ledger.Len() == 0 && !s.group && s.status == wire.StatusIdle &&
		s.clientChunk != chunkPass && s.cancelling == 0:
		s.resetServer(now, out)
		return
	case s.ledger.Len() == 0 && !s.group && !s.pins.any() && s.mode != PoolSession &&
		s.clientChunk != chunkPass:
		if s.status == 'I' {
			s.letGo(Release, "", out)
			break
		}
		// The connection is worth a round trip: roll back what is open.
		s.leaveWith("ROLLBACK", request{bits: rollsBack}, now, out)
		return
	default:
		if s.ledger.Len() > 0 && !polite && !s.commitOwed() {
			out.cancelServer()
		}
		s.letGo(Discard, "client left", out)
	}
	s.end(nil, out)
}

// leaveWith runs a last statement on the server connection of a client that has left.
func (s *Session) leaveWith(sql string, r request, now replication.Instant, out *Actions) {
	s.drop(out)
	out.put(Server, wire.AppendQuery(out.own(Server), sql))
	s.inject(wire.OwedQuery, r)
	s.phase = phaseLeaving
	s.armed = 0
	s.armBy(now.Add(rollbackTime), out)
}

// resetServer makes the server connection of session pooling fit for others.
func (s *Session) resetServer(now replication.Instant, out *Actions) {
	text := []byte(s.cfg.ResetQuery)
	v := router.Classify(text, s.opts)
	r := request{cmd: v.Command, flags: v.Flags, bits: rollsBack | resets | outside}
	if tracked(&v) {
		r.effect = makeEffect(&v, text, s.opts)
	}
	s.leaveWith(s.cfg.ResetQuery, r, now, out)
}

// rollbackTime bounds the rollback for a client that has left.
const rollbackTime = 5 * time.Second

// closed takes the end of a connection.
func (s *Session) closed(now replication.Instant, ev *Event, out *Actions) {
	if ev.Side == Client {
		if s.phase == phaseReady {
			s.clientGone(now, false, out)
		} else if s.phase != phaseLeaving {
			s.end(nil, out)
		}
		return
	}
	if s.srv == nil {
		return
	}
	if s.phase == phaseLeaving {
		s.leave(out)
		s.end(nil, out)
		return
	}
	if s.clientOwed() > 0 {
		s.noteIllness(now)
	}
	s.serverGone(now, nil, out)
}
