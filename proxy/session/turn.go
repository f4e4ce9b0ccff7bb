package session

import (
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// turn is what is known of the frames that wait in pend, from its beginning.
type turn struct {
	scanned  int // bytes looked at
	end      int // where the turn ends, when it is complete
	complete bool
	large    bool // a message of it is not complete yet and too large to wait for
	write    bool // something in it is not surely a read
	parsed   bool // it has a Parse
	needs    bool // something in it needs a server
	flush    bool // it ended with Flush: more of it will come
	frames   int
	verdict  router.Verdict // of its first frame, if that is a Query
	hint     router.Hint
}

// retry says whether the turn may run again elsewhere.
type retry struct {
	possible bool // it is a read, complete in pend, and nothing of its answer has been passed on
	again    bool // it is running again
	primary  bool // its answer is being dropped: it will run on the primary
	count    int
}

// maxRetries bounds how often one turn is run.
const maxRetries = 8

// collect keeps a client's chunk until it can be written.
func (s *Session) collect(p wire.Piece, out *Actions) {
	if s.pend == nil {
		s.pend = out.take()
	}
	s.pend = append(s.pend, p.Bytes...)
	if len(s.pend)-s.sent >= s.cfg.MaxCollected {
		s.setStop(Client, stopHeld, true, out)
	}
}

// advance goes on with what waits, as far as it can.
func (s *Session) advance(now replication.Instant, out *Actions) {
	for s.phase == phaseReady {
		if s.srv == nil {
			if s.waiting || !s.beginTurn(now, out) {
				break
			}
		} else if !s.push(now, out) && s.srv != nil {
			break
		}
	}
	if s.phase != phaseReady {
		return
	}
	s.trim(out)
	if s.shutdown != nil && s.quiet() {
		s.end(s.shutdown, out)
	}
}

// quiet reports whether nothing is owed, open or under way.
func (s *Session) quiet() bool {
	return !s.waiting && !s.ghost && !s.skip && !s.group && s.status == wire.StatusIdle && s.ledger.Len() == 0 &&
		len(s.pend) == 0 && s.clientChunk == chunkNone
}

// trim forgets what was written and will not be written again.
func (s *Session) trim(out *Actions) {
	if s.retry.possible || s.retry.primary || s.sent == 0 {
		return
	}
	n := copy(s.pend, s.pend[s.sent:])
	s.pend, s.sent, s.turn = s.pend[:n], 0, turn{}
	if n == 0 {
		out.give(s.pend)
		s.pend = nil
	}
	if n < s.cfg.MaxCollected {
		s.setStop(Client, stopHeld, false, out)
	}
}

// consume forgets the first n bytes that wait.
func (s *Session) consume(n int, out *Actions) {
	s.retry = retry{}
	s.sent = n
	s.turn = turn{}
	if n > 0 {
		s.trim(out)
	}
}

// scan looks at the frames that wait until the turn is complete.
func (s *Session) scan() {
	t := &s.turn
	for !t.complete && t.scanned < len(s.pend) {
		var cutter wire.Cutter
		p, n, err := cutter.Cut(s.pend[t.scanned:], true)
		if err != nil || n == 0 {
			return
		}
		if !p.Last {
			t.large, t.write, t.needs = true, true, true
			return
		}
		s.look(t, p)
		t.frames++
		t.scanned += n
		t.end = t.scanned
	}
}

// look judges one frame.
func (s *Session) look(t *turn, p wire.Piece) {
	body := p.Bytes[wire.HeaderLen:]
	switch p.Type {
	case 'Q':
		t.complete, t.needs = true, true
		text, err := wire.ParseString(body)
		if err != nil || t.frames > 0 { // behind an error the server would skip it: no turn to run twice
			t.write = true
			return
		}
		v := router.Classify(text, s.opts)
		if t.frames == 0 {
			t.verdict = v
		}
		s.judge(t, &v, text)
	case 'P':
		t.needs, t.parsed = true, true
		_, text, _, err := wire.ParseParse(body)
		if err != nil {
			t.write = true
			return
		}
		v := router.Classify(text, s.opts)
		s.judge(t, &v, text)
	case 'B':
		t.needs = true
		_, name, _, err := wire.ParseBind(body)
		st := s.prepared.find(name)
		switch {
		case err != nil, st == nil && !t.parsed:
			t.write = true
		case st != nil && !s.mayRead(&st.verdict, []byte(nil), st.text):
			t.write = true
		}
	case 'D', 'E':
		t.needs = true
	case 'F':
		t.needs, t.write, t.complete = true, true, true
	case 'S':
		t.complete = true
	case 'H':
		t.complete, t.flush = t.needs, t.needs
	}
}

func (s *Session) judge(t *turn, v *router.Verdict, text []byte) {
	if v.Hint.Target != router.TargetUnset {
		t.hint.Target = v.Hint.Target
	}
	if v.Hint.Level != router.LevelUnset {
		t.hint.Level = v.Hint.Level
	}
	if !s.mayRead(v, text, "") {
		t.write = true
	}
}

// mayRead reports whether a statement may run on a standby. Its text is text or else stored.
func (s *Session) mayRead(v *router.Verdict, text []byte, stored string) bool {
	if v.Flags.Has(router.Pins) {
		return false
	}
	switch v.Command {
	case router.CommandBegin:
		return v.Flags.Has(router.TxReadOnly) && !v.Flags.Has(router.TxSerializable|router.NodeLocal)
	case router.CommandReset, router.CommandResetAll, router.CommandResetRole, router.CommandResetSessionAuth:
		return true
	case router.CommandSet, router.CommandSetRole, router.CommandSetSessionAuth:
		if text == nil {
			text = []byte(stored)
		}
		return s.carries(v, text)
	case router.CommandShow:
		if text == nil {
			text = []byte(stored)
		}
		if s.target() != router.TargetReplica &&
			(v.NameIs(text, "transaction_read_only") || v.NameIs(text, "in_hot_standby") || v.NameIs(text, "all")) {
			return false
		}
	}
	return v.Kind == router.Read
}

// carries reports whether a setting can be carried to other servers: otherwise it will bind the session to its server.
func (s *Session) carries(v *router.Verdict, text []byte) bool {
	if v.Flags.Has(router.ValueDefault) {
		return true
	}
	value, ok := v.AppendValue(nil, text, s.opts)
	return ok && len(value) <= maxSettingValue && len(s.settings.now.want.all()) < s.cfg.MaxSettings
}

// beginTurn starts what waits while there is no server: it answers it here, or asks for a server. It reports whether
// there may be more to do at once.
func (s *Session) beginTurn(now replication.Instant, out *Actions) bool {
	if len(s.pend) == 0 {
		return false
	}
	if s.ghost || s.skip {
		return s.playFailed(out)
	}
	s.scan()
	t := &s.turn
	if !t.complete && !t.large && len(s.pend) < s.cfg.MaxCollected {
		return false
	}
	if s.untold != nil {
		lost := s.untold
		s.untold = nil
		s.failTurn(lost, out)
		return true
	}
	if s.answerHere(out) {
		return true
	}
	s.askServer(now, out)
	return false
}

// askServer opens a Need for the turn.
func (s *Session) askServer(now replication.Instant, out *Actions) {
	t := &s.turn
	kind := router.Read
	if t.write || !t.complete || t.flush || s.mode == PoolSession || s.retry.primary {
		kind = router.Write
	}
	if isolation, ok := s.settings.now.want.value("default_transaction_isolation"); ok && isolation == "serializable" {
		kind = router.Write
	}
	if mode, ok := s.settings.now.want.value("synchronous_commit"); ok && isOff(mode) {
		kind = router.Write // what it commits may lie past any flush position: only the primary surely shows it
	}
	target, level := s.target(), s.level()
	if pinned := s.cfg.Target != router.TargetAuto && s.cfg.Target != router.TargetUnset; t.hint.Target != router.TargetUnset && !pinned {
		target = t.hint.Target
	}
	if t.hint.Level != router.LevelUnset {
		level = t.hint.Level
	}
	if s.retry.primary {
		target = router.TargetPrimary
	}
	ticket := now
	if s.since != 0 {
		ticket = s.since
	}
	s.need = Need{Kind: kind, Target: target, Level: level, Consistency: s.consistency, Arrival: now, Ticket: ticket}
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
	s.srv, s.attachment = a.Server, a
	a.Server.Meter.waited(now.Sub(s.since))
	if a.Consistency != nil {
		s.consistency = *a.Consistency
		s.attachment.Consistency = nil // it is the driver's
	}
	if onPrimary(a.Server) && s.view().Epoch != a.Server.Epoch {
		s.letGo(Discard, "epoch has passed", out)
		return // advance asks again
	}
	s.free = onPrimary(a.Server) || s.need.Kind == router.Write
	s.granted = true
	s.settings.attach(a.Server.settings)
	s.prepared.unnamedHere = false
	s.report.stale = true
	s.stopped[Server] = s.stopped[Server] & stopFull
	if s.stopped[Server] != 0 {
		out.read(Server, StopReading)
	}
	s.retry.possible = s.need.Kind == router.Read && s.turn.complete && s.retry.count < maxRetries
	s.retry.again, s.retry.primary = s.retry.count > 0, false
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
		s.consistency.Touched(s.clock)
	}
}

// leave forgets the server connection.
func (s *Session) leave(out *Actions) {
	s.srv = nil
	s.attachment = Attachment{}
	s.ledger.Reset()
	s.preparing, s.group, s.inTx, s.writes, s.swallow, s.failed, s.localOnly = false, false, false, false, false, false, false
	s.broken, s.unsure, s.restoreError = false, false, nil
	s.watch = stopwatch{}
	s.settings.attach(nil)
	s.serverChunk = chunkNone
	s.prepared.ended()
	out.give(s.held)
	out.give(s.withheld)
	s.held, s.withheld = nil, nil
	s.stopped[Server] &= stopFull
	s.setStop(Client, stopLedger, false, out)
}

// push writes the next frame that waits, if it may be written.
func (s *Session) push(now replication.Instant, out *Actions) bool {
	if s.preparing || s.sent == len(s.pend) || !s.mayForward(now, out) {
		return false
	}
	if s.restore(out) {
		return false
	}
	var cutter wire.Cutter
	p, n, err := cutter.Cut(s.pend[s.sent:], true)
	if err != nil || n == 0 {
		return false
	}
	s.sent += n
	if !p.Last {
		s.retry.possible = false
	}
	s.copying = true
	s.forward(p, out)
	s.copying = false
	return true
}

// mayForward reports whether the next client frame may be written to the server now; if not, it sees to it that the
// session is woken.
func (s *Session) mayForward(now replication.Instant, out *Actions) bool {
	if s.preparing {
		return false
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

// restore injects what makes the server's settings those of the session, at the start of a turn, and reports whether it
// did: the turn waits for the answer, since a refusal or a cancel would make it run under other settings.
func (s *Session) restore(out *Actions) bool {
	p := &s.settings.now
	if p.want == p.have || s.inTx || s.group || s.status != wire.StatusIdle {
		return false
	}
	if p.want.equal(p.have) {
		p.have = p.want
		return false
	}
	b, at := wire.BeginQuery(out.own(Server))
	b = appendRestore(b, p.have, p.want)
	out.put(Server, wire.EndQuery(b, at))
	s.ledger.Push(wire.Owed[request]{Kind: wire.OwedQuery, Injected: true, Ref: request{bits: restores}})
	p.have = p.want
	s.preparing = true
	return true
}

// endTurn is called when everything written has been answered and no transaction is open: the server connection goes
// back, unless something holds it.
func (s *Session) endTurn(now replication.Instant, out *Actions) {
	switch {
	case onPrimary(s.srv):
		s.consistency.Touched(now)
	case s.need.Level != router.LevelEventual && s.need.Level != router.LevelBounded: // those may go back in time
		s.consistency.ReadFrom(s.attachment.Status, now)
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

// failTurn answers the turn that waits with an error. Nothing of it has been written.
func (s *Session) failTurn(why *wire.ErrorFields, out *Actions) {
	if s.waiting {
		s.waiting = false
		out.CancelNeed, out.control = true, true
	}
	s.since = 0
	s.info.Failed++
	s.say(why, out)
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

// attachFailed answers the turn with the driver's failure.
func (s *Session) attachFailed(f Failure, out *Actions) {
	if !s.waiting {
		return
	}
	s.waiting = false
	s.failTurn(failureFields(f, severityError, errAttach), out)
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
