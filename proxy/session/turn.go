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
	fresh    bool // of the unnamed statement
	needs    bool // something in it needs a server
	flush    bool // it ended with Flush: more of it will come
	recalls  bool // something in it is about the session's place in a sequence
	frames   int
	verdict  router.Verdict // of its first frame, if that is a Query
	hint     router.Hint
	tag      string // of the hint
	token    string // of the hint
	flags    router.Flags
	synced   bool // it ended with Sync
	begins   bool // it begins with a BEGIN whose transaction may begin on a standby
	moves    bool // it takes a lazy transaction to the primary
	bound    bool // it has a portal that was not run yet
	reads    bool // it does more than to end a transaction
	block    bool // it begins or ends a transaction block
	own      bool // it has a statement about walgate's own parameters that is answered here
	foreign  bool // it has another statement
}

// retry says whether the turn may run again elsewhere.
type retry struct {
	possible bool // it is a read, complete in pend, and nothing of its answer has been passed on
	again    bool // it is running again
	dropped  bool // its answer is being dropped: it will run again
	primary  bool // it will run on the primary
	scrub    bool // the standby refused a write: whatever else it did, its connection is not used again
	count    int
	tried    []replication.NodeID // the standbys that have failed it, for reasons of their own; replaced, not changed
}

// maxRetries bounds how often one turn is run, and maxTried how many standbys may fail it before it is the primary's.
const (
	maxRetries = 8
	maxTried   = 3
)

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
			s.trim(out) // of the turn that has ended
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
	if s.retry.possible || s.retry.dropped || s.sent == 0 {
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
	if s.catalog != nil && t.frames == 0 {
		s.opts.Catalog = s.catalog.Load()
	}
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
			t.write, t.foreign = true, true
			return
		}
		v := router.Classify(text, s.opts)
		if t.frames == 0 {
			t.verdict = v
		}
		s.judge(t, &v, text)
	case 'P':
		t.needs, t.parsed = true, true
		name, text, _, err := wire.ParseParse(body)
		t.fresh = t.fresh || len(name) == 0
		if err != nil {
			t.write, t.foreign = true, true
			return
		}
		v := router.Classify(text, s.opts)
		s.judge(t, &v, text)
	case 'B':
		t.needs = true
		portal, name, _, err := wire.ParseBind(body)
		st := s.prepared.find(name)
		t.bound, t.moves = true, t.moves || len(portal) > 0 // it may be for later turns
		switch {
		case err == nil && t.fresh && len(name) == 0: // its Parse was looked at
		case err != nil, st == nil && !t.parsed:
			t.write, t.foreign, t.flags = true, true, t.flags|router.Executes
		case st != nil:
			s.hinted(t, &st.verdict.Hint, nil, st.asked)
			if t.flags |= st.verdict.Flags; st.sql || st.large {
				t.flags |= router.Executes
			}
			t.block = t.block || st.verdict.Flags.Has(router.TxControl)
			t.recalls = t.recalls || st.verdict.Flags.Has(router.Recalls|router.Sequence)
			t.noteOwn(st.about)
			v := s.judged(st)
			reads := s.mayRead(v, []byte(nil), st.text) && !s.wasRefused(st.fingerprint)
			if s.mayBegin(t, v, st.asked) {
				break
			}
			t.judgeMove(v, reads)
			t.write = t.write || !reads
		}
	case 'E':
		t.needs = true
		if _, rows, err := wire.ParseExecute(body); err != nil || rows != 0 {
			t.moves = true // a portal can't be taken along
		}
		t.bound = false
	case 'D':
		t.needs = true
	case 'F':
		t.needs, t.write, t.complete, t.foreign = true, true, true, true
	case 'S':
		t.complete, t.synced, t.moves = true, true, t.moves || t.bound
	case 'H':
		t.complete, t.flush = t.needs || t.frames == 0, t.needs
	}
}

func (s *Session) judge(t *turn, v *router.Verdict, text []byte) {
	t.recalls = t.recalls || v.Flags.Has(router.Recalls|router.Sequence) || v.Command == router.CommandDiscardSequences
	s.hinted(t, &v.Hint, text, "")
	t.block = t.block || v.Flags.Has(router.TxControl)
	t.noteOwn(s.ownStatement(v, text))
	t.flags |= v.Flags
	reads := s.mayRead(v, text, "") && !(s.catalog != nil && s.catalog.Refuses() && s.wasRefused(router.Fingerprint(text, s.opts)))
	if v.Command == router.CommandBegin && s.mayBegin(t, v, string(text)) {
		return
	}
	t.judgeMove(v, reads)
	t.write = t.write || !reads
}

// mayBegin reports whether a statement is a BEGIN at the beginning of the turn whose transaction may begin on a standby, and
// notes it.
func (s *Session) mayBegin(t *turn, v *router.Verdict, text string) bool {
	if v.Command != router.CommandBegin || v.Flags != router.TxControl || t.reads || t.moves || s.status != wire.StatusIdle {
		return false
	}
	if r, _ := s.reads(); r.Transactions != router.TransactionsReads || s.mode != PoolTransaction {
		return false
	}
	d, ok := readBegin([]byte(text), s.opts)
	t.begins = ok && !d.said && !d.writes
	return t.begins
}

// wasRefused reports whether a standby has refused such a statement.
func (s *Session) wasRefused(fingerprint uint64) bool {
	return s.catalog != nil && s.catalog.Refuses() && s.catalog.Refused(fingerprint)
}

// rememberRefused sees to it that a statement which a standby has refused goes to the primary at once the next time. What
// may be over by then – a conflict, a definition on its way – is not remembered.
func (s *Session) rememberRefused(r *request, code []byte) {
	switch string(code) {
	case "25006", "0A000", "55000", "XX000", "58P01":
	default:
		return
	}
	switch {
	case s.catalog == nil:
	case r.stmt != nil:
		s.catalog.Refuse(r.stmt.fingerprint)
	case s.turn.frames == 1 && s.pend[0] == 'Q':
		if text, err := wire.ParseString(s.pend[wire.HeaderLen:s.turn.end]); err == nil {
			s.catalog.Refuse(router.Fingerprint(text, s.opts))
		}
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
		if v.NameIs(text, ownToken) {
			return false
		}
		if s.target() != router.TargetReplica &&
			(v.NameIs(text, "transaction_read_only") || v.NameIs(text, "in_hot_standby") || v.NameIs(text, "all")) {
			return false
		}
	}
	return v.Kind == router.Read && !(v.Flags.Has(router.NodeLocal) && s.target() != router.TargetReplica && asksForRole(text, stored))
}

// asksForRole reports whether a statement is nothing but the question by which drivers look for the primary. Among other
// words it tells where the statement ran.
func asksForRole(text []byte, stored string) bool {
	if text != nil {
		stored = string(text)
	}
	switch strings.ToLower(strings.TrimRight(strings.TrimSpace(stored), "; \t\n")) {
	case "select pg_is_in_recovery()", "select pg_catalog.pg_is_in_recovery()":
		return true
	}
	return false
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
	if refused := s.takeToken(t, out); refused != nil {
		s.failTurn(refused, out)
		return true
	}
	s.askServer(now, out)
	return false
}

// push writes the next frame that waits, if it may be written.
func (s *Session) push(now replication.Instant, out *Actions) bool {
	if s.lazy && !s.group && !s.granted && !s.examine(out) {
		return false
	}
	if s.preparing || s.sent == len(s.pend) || !s.mayForward(now, out) {
		return false
	}
	if s.restore(out) || s.reopen(out) {
		return false
	}
	var cutter wire.Cutter
	p, n, err := cutter.Cut(s.pend[s.sent:], true)
	if err != nil || n == 0 || s.awaitsNames(p.Type, out) {
		return false
	}
	s.sent += n
	if !p.Last {
		s.retry.possible = false
	}
	s.copying = true
	taken := s.forward(p, out)
	s.copying = false
	if !taken {
		s.sent -= n
		if !p.Last {
			s.clientChunk = chunkHold
		}
	}
	return taken
}
