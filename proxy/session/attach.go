package session

import (
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// askServer opens a Need for the turn.
func (s *Session) askServer(now replication.Instant, out *Actions) {
	ticket := now
	if s.since != 0 {
		ticket = s.since
	}
	s.need = s.makeNeed(now, ticket)
	if s.turn.recalls || s.need.Kind == router.Write {
		s.need.Again = s.sequenceOn
	}
	s.waiting = true
	s.blocked(now, out)
	out.need(&s.need)
}

// blocked starts the time of the wait for a server.
func (s *Session) blocked(now replication.Instant, out *Actions) {
	if s.since == 0 {
		s.since = now
	}
	s.armBy(s.since.Add(s.cfg.HoldTimeout), out)
}

// attached takes a server connection for the turn.
func (s *Session) attached(now replication.Instant, a Attachment, out *Actions) {
	if !s.waiting || s.phase != phaseReady {
		return
	}
	s.waiting = false
	s.queuedSince, s.notified = 0, false
	s.srv, s.attachment = a.Server, a
	a.Server.lend(s.id)
	s.advanced = a.Server.sequenced
	a.Server.Meter.waited(now.Sub(s.since))
	if a.Consistency != nil {
		s.consistency = *a.Consistency
		s.attachment.Consistency = nil // it is the driver's
	}
	if onPrimary(a.Server) && s.view().Epoch != a.Server.Epoch {
		s.letGo(Discard, "epoch has passed", out)
		return // advance asks again
	}
	s.attachedIn = s.view().Epoch
	if !onPrimary(a.Server) && a.Proof && a.Status.AskedAt < a.Server.Opened {
		s.proven, s.provenAfter = a.Server.Node, a.Server.Opened
		s.letGo(Release, "", out)
		return // as above
	}
	s.proven, s.provenAfter = "", 0
	if s.mistaken(a.Server) {
		s.retry.primary = true
		s.letGo(Release, "", out)
		return // as above
	}
	s.noteRoute(&a)
	s.free = onPrimary(a.Server) || s.need.Kind == router.Write
	s.granted = true
	s.settings.attach(a.Server.settings)
	s.portals.unnamedHere = false
	s.stale = true
	s.stopped[Server] = s.stopped[Server] & stopFull
	if s.stopped[Server] != 0 {
		out.read(Server, StopReading)
	}
	s.retry.possible = s.need.Kind == router.Read && s.turn.complete && s.retry.count < maxRetries
	s.retry.again, s.retry.dropped, s.retry.primary = s.retry.count > 0, false, false
	if a.Lost && s.cfg.LostWrites == LostError {
		s.letGo(Release, "", out)
		s.failTurn(errLostWriteError, out)
		return
	}
	if a.Lost {
		out.put(Client, wire.AppendNoticeResponse(out.own(Client), *errLostWrite))
	}
}

// letGo gives the server connection back.
func (s *Session) letGo(how Detach, reason string, out *Actions) {
	if s.broken {
		how, reason = Discard, "what it still answers is unknown"
	}
	s.srv.settings = s.settings.now.have
	switch {
	case s.srv.sequenced:
		s.sequenceOn = s.srv.ID
	case s.advanced:
		s.sequenceOn = 0 // a default may have called nextval here: what the other connection would tell may be old
	}
	if how == Discard {
		s.srv.settings = nil
		s.touched()
	}
	out.detach(how, reason)
	s.leave(out)
}

// touched notes that a server connection is lost with which something may have been committed.
func (s *Session) touched() {
	if onPrimary(s.srv) {
		s.consistency.Touched(s.clock, s.asyncCommits())
	}
}

// leave forgets the server connection.
func (s *Session) leave(out *Actions) {
	s.settleDefinitions(true)
	s.srv, s.asked = nil, nil
	s.attachment = Attachment{}
	s.ledger.Reset()
	s.preparing, s.group, s.inTx, s.writes, s.swallow, s.failed, s.localOnly = false, false, false, false, false, false, false
	s.broken, s.unsure, s.restoreError, s.dismissal = false, false, nil, nil
	s.opening, s.copyPending, s.copyFailed = nil, false, 0
	s.hushed, s.advanced, s.lazy, s.swift, s.ill = false, false, false, false, false
	s.watch, s.timedOutAt, s.cancelling, s.async = stopwatch{}, 0, 0, false
	s.settings.attach(nil)
	s.serverChunk = chunkNone
	s.portals.ended()
	s.naming = naming{}
	out.give(s.held)
	out.give(s.withheld)
	s.held, s.withheld = nil, nil
	s.stopped[Server] &= stopFull
	s.setStop(Client, stopLedger|stopFull, false, out) // what is unwritten toward that server does not matter any more
}

// mayForward reports whether the next client frame may be written to the server now; if not, it sees to it that the
// session is woken.
func (s *Session) mayForward(now replication.Instant, out *Actions) bool {
	if s.preparing || s.cancelling != 0 || !s.group && (s.swift || s.lazy && !s.granted) {
		return false // a turn whose BEGIN may fail must be over before the next; those of a lazy transaction are examined
	}
	start := !s.inTx && !s.group
	if !onPrimary(s.srv) {
		if start && s.view().Primary == s.srv.Node && s.ledger.Len() == 0 {
			s.letGo(Discard, "standby was promoted", out)
			s.lostPins()
			return false
		}
		if start && !s.free && !s.granted {
			return false // the next turn: it may need another server
		}
		s.since = 0
		return true
	}
	if !s.cfg.Gate.Allows(s.srv.Epoch, now) {
		s.blocked(now, out)
		s.armBy(now.Add(s.cfg.GateRecheck), out)
		return false
	}
	if view := s.view(); start && (!view.Writable() || view.Epoch != s.srv.Epoch) {
		if s.ledger.Len() == 0 && !s.pins.any() && s.mode != PoolSession {
			s.letGo(Release, "", out)
			return false
		}
		s.blocked(now, out)
		return false
	}
	s.since = 0
	return true
}

// endTurn is called when everything written has been answered and no transaction is open: the server connection goes
// back, unless something holds it.
func (s *Session) endTurn(now replication.Instant, out *Actions) {
	if onPrimary(s.srv) {
		s.consistency.Touched(now, s.asyncCommits())
		s.comeback.primary(s.need.Kind == router.Read)
		s.hushed = false
	} else {
		s.settleReads(now)
	}
	if s.clientChunk == chunkPass {
		return
	}
	if s.pins.any() || s.mode == PoolSession {
		s.free = true // there is no other server to ask for
		return
	}
	s.since = 0
	switch {
	case !onPrimary(s.srv) && s.view().Primary == s.srv.Node:
		s.letGo(Discard, "standby was promoted", out)
	case onPrimary(s.srv) && s.view().Epoch > s.srv.Epoch:
		s.letGo(Discard, "epoch has passed", out)
	default:
		s.letGo(Release, "", out)
	}
}

// settleReads notes what the session has seen on a standby.
func (s *Session) settleReads(now replication.Instant) {
	if s.need.Level != router.LevelEventual && s.need.Level != router.LevelBounded { // those may go back in time
		s.consistency.ReadFrom(s.attachment.Status, now)
		s.comeback.standby()
	}
}

// attachFailed answers the turn with the driver's failure.
func (s *Session) attachFailed(f Failure, out *Actions) {
	if !s.waiting {
		return
	}
	s.waiting = false
	s.failTurn(failureFields(f, severityError, errAttach), out)
}

// asyncCommits reports whether what was done since the server was attached may have been committed without waiting for
// the flush.
func (s *Session) asyncCommits() bool {
	if s.async {
		return true
	}
	if mode, ok := s.settings.now.want.value(settingSyncCommit); ok {
		return isOff(mode)
	}
	return s.srv.Defaults.asyncCommits
}

const settingSyncCommit = "synchronous_commit"

// switchesAsync reports whether a statement may switch off waiting for the flush for what is to come.
func switchesAsync(v *router.Verdict, text []byte) bool {
	switch v.Command {
	case router.CommandSet, router.CommandSetLocal:
		return v.NameIs(text, settingSyncCommit)
	case router.CommandMany:
		return v.Flags.Has(router.State | router.LocalState)
	default:
		return false
	}
}

// isOff reports whether a boolean setting is switched off (parse_bool in src/backend/utils/adt/bool.c, the spellings
// that are in use).
func isOff(value string) bool {
	switch strings.ToLower(value) {
	case "off", "false", "no", "0", "f", "n":
		return true
	}
	return false
}
