package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// playFailed answers client frames in place of a transaction that is lost, as PostgreSQL answers in a failed one: with
// errors, until ROLLBACK or COMMIT ends it. It also drops what follows an error up to Sync.
func (s *Session) playFailed(out *Actions) bool {
	at := 0
	for at < len(s.pend) && (s.ghost || s.skip) {
		var cutter wire.Cutter
		p, n, err := cutter.Cut(s.pend[at:], true)
		if err != nil || n == 0 {
			break
		}
		at += n
		s.clientChunk = chunkNone
		if !p.Last {
			s.clientChunk, s.dropped = chunkDrop, 0
		}
		switch {
		case !s.skip:
			s.playOne(p, out)
		case p.Type == 'S':
			s.skip = false
			s.tellReady(out)
		}
	}
	s.consume(at, out)
	return at > 0
}

// playOne answers one frame.
func (s *Session) playOne(p wire.Piece, out *Actions) {
	body := p.Bytes[wire.HeaderLen:]
	switch p.Type {
	case 'Q':
		s.playQuery(p, body, out)
	case 'P':
		s.playParse(p, body, out)
	case 'B':
		portal, name, _, err := wire.ParseBind(body)
		st := s.prepared.find(name)
		if err != nil || !endsTransaction(st) {
			s.playMissing(err == nil && st == nil, name, out)
			return
		}
		s.portals.bound(portal, st)
		out.put(Client, wire.AppendEmpty(out.own(Client), '2'))
	case 'D':
		s.playDescribe(body, out)
	case 'E':
		portal, _, err := wire.ParseExecute(body)
		st := s.portals.running(portal)
		if err != nil || !endsTransaction(st) {
			s.playError(out)
			return
		}
		s.playEnd(&st.verdict, true, out)
	case 'C':
		if kind, name, err := wire.ParseTarget(body); err == nil && kind == 'S' {
			s.prepared.remove(string(name))
		}
		out.put(Client, wire.AppendEmpty(out.own(Client), '3'))
	case 'S':
		s.tellReady(out)
	case 'F':
		s.playError(out)
		s.skip = false
		if p.Last {
			s.tellReady(out)
		} else {
			s.dropped = 'F'
		}
	}
}

// playError tells what was lost, or that the transaction is aborted.
func (s *Session) playError(out *Actions) {
	why := errAborted
	if s.untold != nil {
		why, s.untold = s.untold, nil
		s.erred++
	}
	s.status = wire.StatusFailed
	s.skip = true
	s.say(why, out)
}

// playEnd ends the lost transaction. A COMMIT that comes before the client knows of the loss is an error.
func (s *Session) playEnd(v *router.Verdict, extended bool, out *Actions) {
	if v.Flags.Has(router.TxChain) {
		s.playError(out)
		return
	}
	if s.untold != nil && v.Command != router.CommandRollback {
		s.playError(out)
		s.skip = extended
	} else {
		out.put(Client, wire.AppendCommandComplete(out.own(Client), "ROLLBACK"))
	}
	s.untold = nil
	s.ghost, s.status = false, wire.StatusIdle
	s.settings.rolledBack()
	s.portals.ended()
}

func (s *Session) playQuery(p wire.Piece, body []byte, out *Actions) {
	text, err := wire.ParseString(body)
	var v router.Verdict
	if err == nil && p.Last {
		v = router.Classify(text, s.opts)
	}
	if v.Statements == 1 && (v.Command == router.CommandCommit || v.Command == router.CommandRollback) {
		s.playEnd(&v, false, out)
	} else if v.Command == router.CommandEmpty && v.Statements == 0 && p.Last && err == nil {
		out.put(Client, wire.AppendEmpty(out.own(Client), 'I'))
	} else {
		s.playError(out)
	}
	s.skip = false
	if !p.Last {
		s.dropped = 'Q'
		return
	}
	s.tellReady(out)
}

func (s *Session) playParse(p wire.Piece, body []byte, out *Actions) {
	name, text, types, err := wire.ParseParse(body)
	if err != nil || !p.Last {
		s.playError(out)
		return
	}
	st := s.newStatement(name, text, types)
	if !endsTransaction(st) && !isEmpty(st) || len(name) > 0 && s.prepared.find(name) != nil {
		s.playError(out)
		return
	}
	s.prepared.install(st)
	out.put(Client, wire.AppendEmpty(out.own(Client), '1'))
}

func (s *Session) playDescribe(body []byte, out *Actions) {
	kind, name, err := wire.ParseTarget(body)
	switch st := s.prepared.find(name); {
	case err == nil && kind == 'S' && (endsTransaction(st) || isEmpty(st)):
		out.put(Client, append(out.own(Client), 't', 0, 0, 0, 6, 0, 0))
		out.put(Client, wire.AppendEmpty(out.own(Client), 'n'))
	case err == nil && kind == 'P' && endsTransaction(s.portals.running(name)):
		out.put(Client, wire.AppendEmpty(out.own(Client), 'n'))
	default:
		s.playMissing(err == nil && kind == 'S' && s.prepared.find(name) == nil, name, out)
	}
}

// playMissing tells that there is no such statement, which PostgreSQL finds out before it looks at the transaction, or what
// playError tells.
func (s *Session) playMissing(missing bool, name []byte, out *Actions) {
	if !missing || s.untold != nil {
		s.playError(out)
		return
	}
	s.status, s.skip = wire.StatusFailed, true
	s.say(errNoStatement(string(name)), out)
}

// endsTransaction reports whether a statement is COMMIT or ROLLBACK.
func endsTransaction(st *statement) bool {
	return st != nil && (st.verdict.Command == router.CommandCommit || st.verdict.Command == router.CommandRollback)
}

// isEmpty reports whether a statement is none, which may be parsed and described even where a transaction has failed.
func isEmpty(st *statement) bool {
	return st != nil && st.verdict.Command == router.CommandEmpty && st.verdict.Statements == 0 && st.types == string(noTypes)
}

// answerHere answers a turn that needs no server, while none is attached; it reports whether it did.
func (s *Session) answerHere(out *Actions) bool {
	t := &s.turn
	if !t.complete {
		return false
	}
	if !t.needs {
		s.answerCloses(out)
		return true
	}
	if t.own && !t.foreign && s.status == wire.StatusIdle {
		return s.answerOwn(out)
	}
	if t.frames != 1 || s.pend[0] != 'Q' {
		return false
	}
	text, err := wire.ParseString(s.pend[wire.HeaderLen:t.end])
	if err != nil {
		return false
	}
	v := &t.verdict
	if s.status != wire.StatusIdle {
		if !s.answerUnstarted(v, text, out) {
			return false
		}
		s.turns++
		s.consume(t.end, out)
		return true
	}
	b := out.own(Client)
	switch v.Command {
	case router.CommandEmpty:
		if s.unproven { // it may be a driver's ping, which shall fail if the startup parameters do
			return false
		}
		b = wire.AppendEmpty(b, 'I')
	case router.CommandDeallocateAll:
		s.prepared.named = nil
		b = wire.AppendCommandComplete(b, "DEALLOCATE ALL")
	case router.CommandDeallocate:
		name := string(v.AppendName(nil, text))
		if s.prepared.named[name] == nil {
			return false
		}
		s.prepared.remove(name)
		b = wire.AppendCommandComplete(b, "DEALLOCATE")
	case router.CommandDiscardAll:
		s.sequenceOn = 0
		s.settings.discardAll()
		s.settings.committed()
		s.prepared.clear()
		b = wire.AppendCommandComplete(b, "DISCARD ALL")
	case router.CommandBegin:
		if s.refuses(v) {
			b = wire.AppendErrorResponse(b, *errBeginRefused)
			break
		}
		tag := s.deferBegin(t, text)
		if tag == "" {
			return false
		}
		b = wire.AppendCommandComplete(b, tag)
	default:
		return false
	}
	out.put(Client, wire.AppendReadyForQuery(b, s.status))
	s.turns++
	s.consume(t.end, out)
	return true
}

// answerCloses answers a turn of nothing but Close, Flush and Sync.
func (s *Session) answerCloses(out *Actions) {
	end := s.turn.end
	for rest := s.pend[:end]; len(rest) > 0; {
		var cutter wire.Cutter
		p, n, err := cutter.Cut(rest, true)
		if err != nil || n == 0 {
			break
		}
		rest = rest[n:]
		switch p.Type {
		case 'C':
			kind, name, err := wire.ParseTarget(p.Bytes[wire.HeaderLen:])
			if err == nil && kind == 'S' {
				s.prepared.remove(string(name))
			}
			out.put(Client, wire.AppendEmpty(out.own(Client), '3'))
		case 'S':
			s.tellReady(out)
		}
	}
	s.consume(end, out)
}
