package session

import (
	"bytes"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// serverPiece takes a chunk from the server. Nothing of a primary is passed on, or even looked at, unless the gate
// allows its epoch.
func (s *Session) serverPiece(now replication.Instant, p wire.Piece, out *Actions) {
	if s.srv == nil {
		return
	}
	if onPrimary(s.srv) && (len(s.withheld) > 0 || p.First && !s.cfg.Gate.Allows(s.srv.Epoch, now)) {
		if s.withheld == nil {
			s.withheld = out.take()
		}
		s.withheld = append(s.withheld, p.Bytes...)
		s.setStop(Server, stopHeld, true, out)
		s.blocked(now, out)
		s.armBy(now.Add(s.cfg.GateRecheck), out)
		return
	}
	s.reply(now, p, out)
}

// letThrough goes on with what the gate withheld, if it allows it now.
func (s *Session) letThrough(now replication.Instant, out *Actions) {
	if s.srv == nil || len(s.withheld) == 0 {
		return
	}
	if !s.cfg.Gate.Allows(s.srv.Epoch, now) {
		if now >= s.since.Add(s.cfg.HoldTimeout) {
			out.detach(Discard, "gate stayed shut")
			s.serverGone(now, nil, out)
			return
		}
		s.armBy(now.Add(s.cfg.GateRecheck), out)
		return
	}
	frames := s.withheld
	s.withheld = nil
	s.since = 0
	s.setStop(Server, stopHeld, false, out)
	s.copying = true
	var cutter wire.Cutter
	for rest := frames; len(rest) > 0 && s.srv != nil; {
		p, n, err := cutter.Cut(rest, true)
		if err != nil || n == 0 {
			break
		}
		s.reply(now, p, out)
		rest = rest[n:]
	}
	s.copying = false
	out.give(frames)
}

// reply takes (the first chunk of) a message of the server.
func (s *Session) reply(now replication.Instant, p wire.Piece, out *Actions) {
	if !p.First {
		switch s.serverChunk {
		case chunkPass:
			s.pass(p.Bytes, out)
		case chunkHold:
			s.held = append(s.held, p.Bytes...)
		}
		if p.Last {
			s.serverChunk = chunkNone
		}
		return
	}
	s.serverChunk = chunkNone
	if !p.Last {
		s.serverChunk = chunkDrop
	}
	switch p.Type {
	case 'Z':
		s.serverReady(now, p, out)
	case 'E':
		s.serverError(now, p, out)
	case 'N':
		s.serverNotice(p, out)
	case 'S':
		s.serverParameter(p, out)
	case 'A':
		if s.phase == phaseReady {
			p.Bytes = s.withSender(p)
			s.show(p, out, true)
		}
	default:
		s.serverAnswer(p, out)
	}
	if s.stopped[Client]&stopLedger != 0 && s.ledger.Len() < maxOwed/2 {
		s.setStop(Client, stopLedger, false, out)
	}
}

// pass writes bytes of the message in hand to the client.
func (s *Session) pass(b []byte, out *Actions) {
	if s.copying {
		out.put(Client, append(out.own(Client), b...))
	} else {
		out.pass(Client, b)
	}
}

// show passes a message on; hold keeps it back as long as the turn may run again.
func (s *Session) show(p wire.Piece, out *Actions, hold bool) {
	if s.retry.possible {
		if hold && len(s.held)+len(p.Bytes) <= s.cfg.MaxHeldReply {
			if s.held == nil {
				s.held = out.take()
			}
			s.held = append(s.held, p.Bytes...)
			if !p.Last {
				s.serverChunk = chunkHold
			}
			return
		}
		s.retry.possible = false
		s.flushHeld(out)
	}
	s.pass(p.Bytes, out)
	if !p.Last {
		s.serverChunk = chunkPass
	}
}

func (s *Session) flushHeld(out *Actions) {
	if s.held != nil {
		out.put(Client, append(out.own(Client), s.held...))
		out.give(s.held)
		s.held = nil
	}
}

// serverAnswer takes a message that answers the oldest request.
func (s *Session) serverAnswer(p wire.Piece, out *Actions) {
	o := s.ledger.Head()
	fits, done := s.ledger.Accept(p.Type)
	if !fits {
		s.serverProtocol(out)
		return
	}
	if o.Ref.bits&resets != 0 && p.Type == 'C' && fits {
		s.alone = true
		s.apply(o.Ref.cmd, o.Ref.flags, o.Ref.effect, "")
	}
	if (o.Kind == wire.OwedDescribeStatement || o.Kind == wire.OwedDescribePortal) && o.Ref.stmt != nil {
		s.described(o, p)
	}
	if o.Ref.cmd == router.CommandCopyIn {
		s.copyPending = false
		s.copied = s.copied && p.Type != 'G'
	}
	if !o.Injected && !s.retry.dropped && !s.swallow {
		switch p.Type {
		case 'C':
			s.completed(&o.Ref, p, out)
		case 'D', 'd', 'I', 's', 'V', 'c':
			if o.Ref.bits&tokens != 0 && p.Type == 'D' {
				s.showToken(p, out)
				break
			}
			s.show(p, out, false)
		default:
			s.show(p, out, p.Type != 'G')
		}
	}
	if done && s.srv != nil { // else the session has ended
		s.ledger.Pop()
		s.answerLocals(out)
	}
}

// completed takes CommandComplete.
func (s *Session) completed(r *request, p wire.Piece, out *Actions) {
	tag, err := wire.ParseString(p.Bytes[wire.HeaderLen:])
	if err != nil {
		s.serverProtocol(out)
		return
	}
	if r.bits&(begins|begun) == begins {
		r.bits |= begun
		return
	}
	if r.effect != nil && r.effect.tag != "" {
		s.applyPrepared(r.effect.cmd, r.effect)
		tag := r.effect.tag
		s.retry.possible = false
		s.flushHeld(out)
		out.put(Client, wire.AppendCommandComplete(out.own(Client), tag))
		return
	}
	if (r.cmd == router.CommandCommit || r.cmd == router.CommandRollback) && !r.flags.Has(router.TxChain) {
		s.status = wire.StatusIdle // should ReadyForQuery never come
	}
	if r.cmd != router.CommandMany {
		r.bits |= finished
	}
	s.alone = r.bits&outside != 0
	s.defined = s.defined || s.catalog != nil && defines(tag)
	if r.cmd == router.CommandCommit || r.cmd == router.CommandPrepareTx || r.cmd == router.CommandMany {
		s.apply(r.cmd, r.flags, r.effect, tagOf(tag))
	} else if r.cmd != router.CommandOther && r.cmd != router.CommandSelect || r.flags.Has(router.AdvisoryUnlockAll|router.LocalState|router.PinState) {
		s.apply(r.cmd, r.flags, r.effect, "")
	}
	if s.localOnly {
		s.retry.possible = false
		s.flushHeld(out)
		s.tellLocalOnly(out)
		s.swallow = true
		return
	}
	s.show(p, out, false)
}

// defines reports whether what a command tag tells of may change what routing knows of a database. Tables do not count:
// temporary ones come and go too often, and what is special about others is found out soon enough.
func defines(tag []byte) bool {
	verb, object, ok := bytes.Cut(tag, []byte{' '})
	if !ok || len(verb) < len("DROP") {
		return string(tag) == "CALL" || string(tag) == "DO"
	}
	switch string(verb) {
	case "CREATE", "ALTER", "DROP":
	default:
		return false
	}
	switch string(object) {
	case "FUNCTION", "VIEW", "AGGREGATE", "OPERATOR", "DOMAIN", "TYPE", "SEQUENCE", "FOREIGN TABLE", "CAST", "EXTENSION", "POLICY", "RULE", "ROUTINE":
		return true
	}
	return false
}

// tagOf returns the tags that matter without allocating.
func tagOf(tag []byte) string {
	if string(tag) == "ROLLBACK" {
		return "ROLLBACK"
	}
	return ""
}

// serverParameter takes ParameterStatus: the client is told at the end of the turn.
func (s *Session) serverParameter(p wire.Piece, out *Actions) {
	name, value, err := wire.ParseParameterStatus(p.Bytes[wire.HeaderLen:])
	if err != nil {
		s.serverProtocol(out)
		return
	}
	s.srv.observe(name, value)
	s.stale = true
	if s.ledger.Len() == 0 && s.phase == phaseReady {
		s.tellReports(out)
	}
}
