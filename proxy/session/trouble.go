package session

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

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
	o := s.ledger.Head()
	if o != nil && o.Injected || s.retry.dropped || s.phase != phaseReady {
		return
	}
	if o != nil && p.Last && (o.Ref.bits&begins != 0 || o.Ref.edits != nil) {
		p.Bytes = wire.AppendChanged(nil, 'N', p.Bytes[wire.HeaderLen:], func(field byte, text []byte) []byte {
			if field == 'P' {
				return s.position(&o.Ref, text)
			}
			return text
		})
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
	if !o.Injected && ails(t.Code) {
		s.noteIllness(now)
	}
	failed := s.failed
	s.failed, s.copyPending = true, false
	ended := s.copyFailed != 0 && s.copyEnded(t)
	switch {
	case o.Ref.bits&mayFail != 0:
		s.failed = failed
		s.ownFailed(o.Ref.stmt)
	case ended:
		s.erred++
		s.say(errDuringCopy(s.copyFailed), out)
	case s.retry.dropped || s.swallow:
	case o.Ref.bits&rollsBack != 0:
		s.broken = s.broken || o.Ref.bits&resets != 0
	case o.Ref.bits&changedShape != 0 && s.retry.possible && !onPrimary(s.srv) && s.target() != router.TargetReplica:
		s.retryOnPrimary(out) // the standby may be behind
	case o.Ref.bits&(changedShape|recalls|elsewhere|refused) != 0:
		s.retry.possible = false
		s.flushHeld(out)
		s.erred++
		s.say(o.Ref.refusal(), out)
	case o.Ref.bits&restores != 0:
		s.failed = false
		s.restoreError = &wire.ErrorFields{Severity: severityError, Code: string(t.Code), Message: string(t.Message)}
	case o.Ref.bits&reopens != 0:
		s.failed = false
		s.restoreError = &wire.ErrorFields{Severity: severityError, Code: string(t.Code), Message: string(t.Message)}
	case o.Injected && o.Kind.EndsTurn():
	case s.retry.possible && s.retry.count < maxRetries-1 && !onPrimary(s.srv) && standbyFails(t.Code):
		s.retryElsewhere(out)
	case s.retry.possible && s.mayCure(&o.Ref, t):
		s.retry.scrub = string(t.Code) == "25006"
		if !onPrimary(s.srv) {
			s.rememberRefused(&o.Ref, t.Code)
		}
		s.retryOnPrimary(out)
	case s.timedOutAt != 0 && string(t.Code) == errQueryTimeout.Code:
		s.retry.possible = false
		s.flushHeld(out)
		s.erred++
		s.say(errQueryTimeout, out)
	default:
		s.retry.possible = false
		s.flushHeld(out)
		s.srv.Meter.failed(t.Code)
		s.showError(o, t, p, out)
	}
	s.settleError(o, t, ended)
}

// settleError takes back what an error of the oldest request has made void; ended: it has ended a copy.
func (s *Session) settleError(o *wire.Owed[request], t wire.Trouble, ended bool) {
	s.forgetStatement(&o.Ref, t)
	s.prepareFailed(&o.Ref)
	if o.Injected && s.aheadOfQuery() {
		s.swallow = true
	}
	s.broken = s.broken || s.ledger.SyncIgnored() && !ended
	if ended {
		s.copyFailed = 0
	}
	s.ledger.Fail(s.undo)
	if s.ledger.Skipping() {
		s.group = true // up to the Sync that is still to come
	}
}

// retryOnPrimary drops what is left of the answer: the turn will run again.
func (s *Session) retryOnPrimary(out *Actions) {
	s.retry.possible, s.retry.dropped, s.retry.primary = false, true, true
	s.flushNothing(out)
}

// retryElsewhere drops what is left of the answer: the turn will run again on another standby, or on the primary.
func (s *Session) retryElsewhere(out *Actions) {
	s.retry.possible, s.retry.dropped = false, true
	s.noteTried()
	s.flushNothing(out)
}

// noteTried notes that the standby has failed the turn. Only where nobody else may serve it does it get it again.
func (s *Session) noteTried() {
	if onPrimary(s.srv) {
		return
	}
	s.retry.tried = append(slices.Clip(s.retry.tried), s.srv.Node)
	if len(s.retry.tried) >= maxTried && s.need.Fallback != router.FallbackError {
		s.retry.primary = true
	}
}

// aheadOfQuery reports whether the oldest request belongs to what is injected ahead of a query.
func (s *Session) aheadOfQuery() bool {
	for i := range s.ledger.Len() {
		if o := s.ledger.At(i); !o.Injected || o.Kind.EndsTurn() {
			return o.Injected && o.Ref.bits&ahead != 0
		}
	}
	return false
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

// standbyFails reports whether an error of a standby is its own trouble, not that of the statement: a conflict with recovery
// (the statement may raise the same code itself, and then fails everywhere), damage, or a disk that can't be read.
func standbyFails(code []byte) bool {
	switch string(code) {
	case "40001", "40P01", "XX001", "XX002", "58030":
		return true
	default:
		return false
	}
}

// standbyRefuses reports whether an error of a standby may come from its being one.
func standbyRefuses(code []byte) bool {
	switch string(code) {
	case "25006", "0A000", "55000", "XX000", "26000", "34000",
		"58P01",                                     // COPY from an unlogged table, which has no file there
		"42P01", "42703", "42883", "42704", "3F000": // it may not have replayed the definition yet
		return true
	default:
		return false
	}
}

// showError passes an error on, in the words of the statement that the client has sent.
func (s *Session) showError(o *wire.Owed[request], t wire.Trouble, p wire.Piece, out *Actions) {
	r := &o.Ref
	st := r.stmt
	if st == nil {
		st = r.prev
	}
	named := st != nil && st.canonical != st.name && bytes.Contains(t.Message, []byte(canonicalPrefix))
	if !p.Last || !named && r.edits == nil && !o.Injected && r.bits&begins == 0 {
		s.pass(p.Bytes, out)
		if !p.Last {
			s.serverChunk = chunkPass
		}
		return
	}
	body := p.Bytes[wire.HeaderLen:]
	out.put(Client, wire.AppendChanged(out.own(Client), 'E', body, func(field byte, text []byte) []byte {
		switch {
		case field == 'P' && o.Injected: // in a text that the client has not sent now
			return nil
		case field == 'P':
			return s.position(r, text)
		case field == 'M' && named:
			return bytes.ReplaceAll(text, []byte(st.canonical), []byte(st.name))
		}
		return text
	}))
}

// position makes a position in the text that was sent one in the client's.
func (s *Session) position(r *request, text []byte) []byte {
	position, err := strconv.Atoi(string(text))
	if err != nil {
		return text
	}
	if r.bits&begins != 0 {
		position = max(position-len(s.reopening)-len(";"), 1)
	}
	return strconv.AppendInt(nil, int64(r.edits.asked(position)), 10)
}

// undo takes back what a request that the server skipped would have done.
func (s *Session) undo(o *wire.Owed[request]) {
	r := &o.Ref
	switch o.Kind {
	case wire.OwedParse:
		s.undoParse(o)
	case wire.OwedDescribeStatement:
		if r.bits&asks != 0 {
			s.preparing = false
		}
	case wire.OwedExecute:
		if r.bits&parses != 0 && s.srv != nil {
			s.srv.statements.remove(r.stmt.canonical)
		}
	case wire.OwedLocal:
		if r.answer == '1' {
			s.prepared.uninstall(r.stmt, r.prev)
		} else if r.stmt != nil && s.prepared.find([]byte(r.stmt.name)) == nil {
			s.prepared.install(r.stmt)
		}
	case wire.OwedClose:
		if r.stmt != nil && s.prepared.find([]byte(r.stmt.name)) == nil {
			s.prepared.install(r.stmt)
		}
		if r.closed != "" && s.srv != nil {
			s.srv.statements.add(r.closed)
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
		s.portals.unnamedHere = false
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

// tellLocalOnly tells that a commit was not confirmed by a standby.
func (s *Session) tellLocalOnly(out *Actions) {
	s.localOnly = false
	s.erred++
	s.say(errLocalOnly, out)
}
