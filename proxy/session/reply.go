package session

import (
	"bytes"
	"strings"

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
	if !o.Injected && !s.retry.primary && !s.swallow {
		switch p.Type {
		case 'C':
			s.completed(&o.Ref, p, out)
		case 'D', 'd', 'I', 's', 'V', 'c':
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
	if r.effect != nil && r.effect.tag != "" {
		s.deallocated(r.effect)
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
	if r.cmd == router.CommandCommit || r.cmd == router.CommandPrepareTx || r.cmd == router.CommandMany {
		s.apply(r.cmd, r.flags, r.effect, tagOf(tag))
	} else if r.cmd != router.CommandOther && r.cmd != router.CommandSelect {
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

// tagOf returns the tags that matter without allocating.
func tagOf(tag []byte) string {
	if string(tag) == "ROLLBACK" {
		return "ROLLBACK"
	}
	return ""
}

// tellLocalOnly tells that a commit was not confirmed by a standby.
func (s *Session) tellLocalOnly(out *Actions) {
	s.localOnly = false
	s.info.Failed++
	s.say(errLocalOnly, out)
}

func (s *Session) deallocated(e *effect) {
	if e.cmd == router.CommandDeallocateAll {
		s.prepared.named = nil
		return
	}
	s.prepared.remove(e.name)
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
		if s.retry.primary || s.swallow {
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
	if injected {
		s.injectedReady(r, status, out)
		s.answerLocals(out)
		return
	}
	if s.retry.primary {
		s.retry.count++
		s.info.Retried++
		s.srv.Meter.retried()
		s.sent = 0
		s.letGo(Release, "", out)
		return // advance asks for the primary
	}
	s.srv.Meter.answered(&s.watch, now, status == wire.StatusIdle, s.ledger.Len() > 0)
	s.turnAnswered(status, out)
	if s.localOnly {
		s.tellLocalOnly(out)
	}
	s.tellReports(out)
	s.pass(p.Bytes, out)
	s.answerLocals(out)
	if s.broken { // another ReadyForQuery may follow
		out.detach(Discard, "what it still answers is unknown")
		s.serverGone(now, nil, out)
		return
	}
	if status == wire.StatusIdle && s.ledger.Len() == 0 && !s.group {
		s.endTurn(now, out)
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
		s.prepared.ended()
	}
	if s.ledger.Len() == 0 && !s.group {
		s.inTx, s.unsure = status != wire.StatusIdle, false
	}
	s.failed, s.swallow = false, false
	s.retry = retry{}
	s.flushHeld(out)
	s.info.Turns++
}

// injectedReady ends an injected query.
func (s *Session) injectedReady(r request, status byte, out *Actions) {
	switch {
	case r.bits&rollsBack != 0:
		if status == wire.StatusIdle {
			s.settings.rolledBack()
			s.letGo(Release, "", out)
		}
		s.end(nil, out)
	case r.bits&restores == 0:
	case s.restoreError == nil:
		s.settings.base.have = s.settings.now.have
		s.preparing, s.settings.unproven = false, nil
	default:
		s.restoreFailed(out)
	}
}

// restoreFailed tells that the session's settings are refused by a server.
func (s *Session) restoreFailed(out *Actions) {
	why := s.restoreError
	s.restoreError = nil
	s.letGo(Discard, "settings were refused", out)
	s.lostPins()
	if s.settings.unproven != nil && why.Code != errCanceled.Code {
		why.Severity = severityFatal
		s.end(why, out)
		return
	}
	s.failTurn(why, out)
}

// serverParameter takes ParameterStatus: the client is told at the end of the turn.
func (s *Session) serverParameter(p wire.Piece, out *Actions) {
	name, value, err := wire.ParseParameterStatus(p.Bytes[wire.HeaderLen:])
	if err != nil {
		s.serverProtocol(out)
		return
	}
	s.srv.observe(name, value)
	s.report.stale = true
	if s.ledger.Len() == 0 && s.phase == phaseReady {
		s.tellReports(out)
	}
}

// serverNotice takes NoticeResponse.
func (s *Session) serverNotice(p wire.Piece, out *Actions) {
	t := wire.ParseTrouble(p.Bytes[wire.HeaderLen:])
	switch {
	case string(t.Routine) == "SyncRepWaitForLSN":
		// The commit is done, but not confirmed; what follows says that it succeeded (src/backend/replication/syncrep.c).
		s.localOnly = true
		return
	case deadly(t.Code) && (string(t.Severity) == "WARNING" || t.Fatal()):
		return // the server says goodbye: its end will be noticed
	}
	if o := s.ledger.Head(); o != nil && o.Injected || s.retry.primary || s.phase != phaseReady {
		return
	}
	s.show(p, out, true)
}

// deadly reports whether an error code tells the end of a server process for reasons of its own.
func deadly(code []byte) bool {
	switch string(code) {
	case "57P01", "57P02", "57P03", "57P04":
		return true
	default:
		return false
	}
}

// serverError takes ErrorResponse.
func (s *Session) serverError(now replication.Instant, p wire.Piece, out *Actions) {
	t := wire.ParseTrouble(p.Bytes[wire.HeaderLen:])
	if t.Fatal() {
		s.serverFatal(now, t, p, out)
		return
	}
	o := s.ledger.Head()
	if o == nil {
		if s.phase == phaseReady {
			s.srv.Meter.failed(t.Code)
			s.show(p, out, false)
		}
		return
	}
	s.failed = true
	switch {
	case s.retry.primary || s.swallow || o.Ref.bits&rollsBack != 0:
	case o.Ref.bits&restores != 0:
		s.failed = false
		s.restoreError = &wire.ErrorFields{Severity: severityError, Code: string(t.Code), Message: string(t.Message)}
	case o.Injected && o.Kind.EndsTurn():
	case s.retry.possible && s.mayCure(&o.Ref, t):
		s.retry.possible, s.retry.primary = false, true
		out.give(s.held)
		s.held = nil
	default:
		s.retry.possible = false
		s.flushHeld(out)
		s.srv.Meter.failed(t.Code)
		s.showError(&o.Ref, t, p, out)
	}
	s.forgetStatement(&o.Ref, t)
	s.broken = s.broken || s.ledger.SyncIgnored()
	s.ledger.Fail(s.undo)
	if s.ledger.Skipping() {
		s.group = true // up to the Sync that is still to come
	}
}

// mayCure reports whether the turn may succeed when it is run again on the primary.
func (s *Session) mayCure(r *request, t wire.Trouble) bool {
	if s.retry.count >= maxRetries-1 {
		return false
	}
	if !onPrimary(s.srv) && standbyRefuses(t.Code) && s.target() != router.TargetReplica {
		return true
	}
	return s.outdated(r, t) && s.target() != router.TargetReplica
}

// outdated reports whether the server has no use for a statement that it was believed to have prepared: someone has
// dropped it, or its result type has changed (src/backend/utils/cache/plancache.c).
func (s *Session) outdated(r *request, t wire.Trouble) bool {
	return r.stmt != nil && r.stmt.canonical != "" && !r.stmt.large &&
		(string(t.Code) == "26000" || string(t.Routine) == "RevalidateCachedQuery")
}

func (s *Session) forgetStatement(r *request, t wire.Trouble) {
	if !s.outdated(r, t) {
		return
	}
	s.srv.statements.remove(r.stmt.canonical)
	if string(t.Code) != "26000" {
		s.srv.toClose = append(s.srv.toClose, r.stmt.canonical)
	}
}

// standbyRefuses reports whether an error of a standby may come from its being one.
func standbyRefuses(code []byte) bool {
	switch string(code) {
	case "25006", "0A000", "40001", "40P01", "55000", "XX000", "26000", "34000",
		"58P01": // COPY from an unlogged table, which has no file there
		return true
	default:
		return false
	}
}

// showError passes an error on. If it names a statement, it is given the name that the client knows.
func (s *Session) showError(r *request, t wire.Trouble, p wire.Piece, out *Actions) {
	st := r.stmt
	if st == nil {
		st = r.prev
	}
	if st == nil || !p.Last || st.canonical == st.name || !bytes.Contains(t.Message, []byte(canonicalPrefix)) {
		s.pass(p.Bytes, out)
		if !p.Last {
			s.serverChunk = chunkPass
		}
		return
	}
	e := wire.ErrorFields{Severity: string(t.Severity), Code: string(t.Code), Routine: string(t.Routine),
		Message: strings.ReplaceAll(string(t.Message), st.canonical, st.name)}
	wire.Fields(p.Bytes[wire.HeaderLen:], func(field byte, text []byte) {
		switch field {
		case 'D':
			e.Detail = string(text)
		case 'H':
			e.Hint = string(text)
		}
	})
	out.put(Client, wire.AppendErrorResponse(out.own(Client), e))
}

// undo takes back what a request that the server skipped would have done.
func (s *Session) undo(o *wire.Owed[request]) {
	r := &o.Ref
	switch o.Kind {
	case wire.OwedParse:
		s.undoParse(o)
	case wire.OwedLocal:
		if r.answer == '1' {
			s.prepared.uninstall(r.stmt, r.prev)
		} else if r.stmt != nil && s.prepared.find([]byte(r.stmt.name)) == nil {
			s.prepared.install(r.stmt)
		}
	case wire.OwedClose:
		if r.effect != nil && s.srv != nil {
			s.srv.statements.add(r.effect.canonical)
		}
	}
}

func (s *Session) undoParse(o *wire.Owed[request]) {
	st := o.Ref.stmt
	if st == nil {
		return
	}
	if !o.Injected {
		s.prepared.uninstall(st, o.Ref.prev)
	}
	if st.canonical == "" {
		s.prepared.unnamedHere = false
	} else if s.srv != nil {
		s.srv.statements.remove(st.canonical)
	}
}

// serverProtocol ends the session because its server can't be understood.
func (s *Session) serverProtocol(out *Actions) {
	if s.serverChunk == chunkPass {
		s.end(nil, out)
		return
	}
	s.end(errServerProtocol, out)
}
