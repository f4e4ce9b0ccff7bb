package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// A transaction need not begin before its first statement. BEGIN is answered here; what it said is sent ahead of that
// statement, to the server which that statement needs, and costs no round trip of its own. Until then the transaction is
// nowhere: it holds no server, and no change of the primary concerns it.
//
// Where that is allowed, a transaction whose first statement reads begins on a standby (it is lazy), and is taken to the
// primary by the first turn that is not surely free of effects: all that it did until then was to read, each statement with
// a snapshot of its own.

// plainBegin opens a transaction as the server's defaults say.
var plainBegin = []byte("BEGIN")

// deferral is what BEGIN said, of a transaction that may begin later.
type deferral struct {
	text   []byte // without comments
	tag    string
	steady bool // it has one snapshot for all of its statements
	said   bool // BEGIN says the isolation level
	writes bool // it insists on writing
}

// readBegin reads BEGIN or START TRANSACTION; ok is false when it is anything but that, with modes that every primary
// accepts. A text that stays in doubt is for the server to refuse.
func readBegin(text []byte, opts router.Options) (d deferral, ok bool) {
	words := beginWords{lx: router.NewLexer(text, opts), text: text}
	words.next()
	switch {
	case words.accept("begin"):
		d.tag = "BEGIN"
		if !words.accept("work") {
			words.accept("transaction")
		}
	case words.accept("start") && words.accept("transaction"):
		d.tag = "START TRANSACTION"
	default:
		return d, false
	}
	for words.tok.Kind == router.TokenWord {
		if !words.mode(&d) {
			return d, false
		}
		if words.punct(',') {
			if words.next(); words.tok.Kind != router.TokenWord {
				return d, false
			}
		}
	}
	if words.punct(';') {
		words.next()
	}
	if d.text == nil {
		d.text = plainBegin
	}
	return d, words.tok.Kind == router.TokenEnd
}

// readEnd reports whether a text is what it seems to be, COMMIT or ROLLBACK without AND CHAIN.
func readEnd(text []byte, opts router.Options) bool {
	words := beginWords{lx: router.NewLexer(text, opts), text: text}
	words.next()
	if !words.accept("commit") && !words.accept("end") && !words.accept("rollback") && !words.accept("abort") {
		return false
	}
	if !words.accept("work") {
		words.accept("transaction")
	}
	if words.accept("and") && !(words.accept("no") && words.accept("chain")) {
		return false
	}
	if words.punct(';') {
		words.next()
	}
	return words.tok.Kind == router.TokenEnd
}

// beginWords reads BEGIN, or what ends a transaction, word by word.
type beginWords struct {
	lx   router.Lexer
	text []byte
	tok  router.Token
}

func (w *beginWords) next() { w.tok = w.lx.Next() }

func (w *beginWords) punct(b byte) bool {
	return w.tok.Kind == router.TokenPunct && w.text[w.tok.Start] == b
}

func (w *beginWords) accept(word string) bool {
	if w.tok.Kind != router.TokenWord || !equalWord(w.text[w.tok.Start:w.tok.End], word) {
		return false
	}
	w.next()
	return true
}

// mode reads one transaction mode and adds it to the text. READ ONLY is not for later: its server is chosen at BEGIN.
func (w *beginWords) mode(d *deferral) bool {
	mode := ""
	switch {
	case w.accept("isolation"):
		if !w.accept("level") || d.said {
			return false
		}
		d.said = true
		switch {
		case w.accept("serializable"):
			d.steady, mode = true, " ISOLATION LEVEL SERIALIZABLE"
		case w.accept("repeatable"):
			if !w.accept("read") {
				return false
			}
			d.steady, mode = true, " ISOLATION LEVEL REPEATABLE READ"
		case w.accept("read") && w.accept("committed"):
			mode = " ISOLATION LEVEL READ COMMITTED"
		default:
			return false
		}
	case w.accept("read"):
		if !w.accept("write") || d.writes {
			return false
		}
		d.writes, mode = true, " READ WRITE"
	default:
		return false
	}
	if d.text == nil {
		d.text = append([]byte(nil), plainBegin...)
	}
	d.text = append(d.text, mode...)
	return true
}

// equalWord compares a keyword with one in lower case.
func equalWord(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// deferBegin takes BEGIN without a server, if the transaction may begin later, and returns its command tag; else "".
func (s *Session) deferBegin(t *turn, text []byte) (tag string) {
	r, _ := s.reads()
	if r.Transactions == router.TransactionsAtBegin || r.Transactions == router.TransactionsUnset || s.mode != PoolTransaction ||
		s.unproven || t.hint != (router.Hint{}) || t.tag != "" || t.token != "" {
		return ""
	}
	d, ok := readBegin(text, s.opts)
	if !ok {
		return ""
	}
	s.reopening, s.deferred, s.settled, s.steady = d.text, true, d.said, d.steady
	s.bound = d.writes
	if !d.said {
		s.steady, s.settled = s.defaultIsolation()
	}
	s.status = wire.StatusInTransaction
	return d.tag
}

// defaultIsolation reports whether the session's transactions have one snapshot for all of their statements, as far as the
// session has said so.
func (s *Session) defaultIsolation() (steady, known bool) {
	level, ok := s.settings.now.want.value("default_transaction_isolation")
	return ok && level != "read committed" && level != "read uncommitted", ok
}

// answerUnstarted answers the end of a transaction that has not begun anywhere; it reports whether the turn was that.
func (s *Session) answerUnstarted(v *router.Verdict, text []byte, out *Actions) bool {
	tag := "COMMIT"
	switch {
	case s.reopening == nil || v.Flags.Has(router.TxChain|router.TxPrepared):
		return false
	case v.Command == router.CommandRollback:
		tag = "ROLLBACK"
	case v.Command != router.CommandCommit:
		return false
	}
	switch {
	case !readEnd(text, s.opts): // the server says what is wrong with it
		return false
	case s.status == wire.StatusFailed:
		tag = "ROLLBACK"
	case !s.deferred:
		return false
	}
	s.reopening, s.deferred, s.status = nil, false, wire.StatusIdle
	out.put(Client, wire.AppendCommandComplete(out.own(Client), tag))
	s.tellReady(out)
	return true
}

// mayBeLazy reports whether the transaction that the turn is to begin may begin on a standby.
func (s *Session) mayBeLazy(r *Reads) bool {
	t := &s.turn
	if r.Transactions != router.TransactionsReads || r.Level == router.LevelStrong || t.moves || t.write || t.flush || !t.complete {
		return false
	}
	if t.begins {
		steady, _ := s.defaultIsolation()
		return t.reads && !steady
	}
	return s.deferred && !s.steady && !s.bound
}

// mistaken reports whether a transaction may not begin on the standby that was given for it, because what the server has
// for a default gives it one snapshot for all.
func (s *Session) mistaken(f *ServerFacts) bool {
	if onPrimary(f) || s.need.Kind != router.Read || !f.Defaults.steady {
		return false
	}
	if s.turn.begins {
		_, known := s.defaultIsolation()
		return !known
	}
	return s.deferred && !s.settled
}

// swiftly reports whether the turn may be written behind BEGIN without waiting for the answer to that. Should BEGIN fail,
// nothing of the turn may run: so it goes with BEGIN in one query string, or in one group up to Sync.
func (s *Session) swiftly() bool {
	const awkward = router.TxControl | router.MayCommit | router.State | router.CopyData | router.Executes | router.OwnStatements |
		router.Processes | router.Recalls | router.Unreadable
	t := &s.turn
	if !s.deferred || !t.complete || t.flush || s.sent != 0 || t.flags.Has(awkward) ||
		t.flags.Has(router.Opaque) && len(s.prepared.named) > 0 { // it may look for them: see wantsOwn
		return false
	}
	switch s.pend[0] {
	case 'P', 'B':
		return t.synced
	case 'Q':
		return t.frames == 1 && t.verdict.Statements == 1 && t.verdict.Command != router.CommandShow &&
			t.verdict.Command != router.CommandDeclare // whose text pg_cursors shows
	}
	return false
}

// beginGroup writes BEGIN ahead of the turn, unless it goes with its query string (beginQuery).
func (s *Session) beginGroup(out *Actions) {
	if s.pend[0] == 'Q' {
		return
	}
	b := wire.AppendParse(out.own(Server), "", string(s.reopening), noTypes)
	b = wire.AppendBindHeader(b, "", "", int64(len(noValues)))
	b = append(b, noValues...)
	out.put(Server, wire.AppendExecute(b, "", 0))
	s.inject(wire.OwedParse, request{})
	s.inject(wire.OwedBind, request{})
	s.inject(wire.OwedExecute, request{})
}

// noValues ends a Bind message without parameters and formats.
var noValues = []byte{0, 0, 0, 0, 0, 0}

// beginQuery writes the query string of the turn with BEGIN ahead of it.
func (s *Session) beginQuery(text []byte, r request, out *Actions) {
	r.bits |= begins
	s.push1(wire.OwedQuery, r, out)
	b, at := wire.BeginQuery(out.own(Server))
	b = append(append(b, s.reopening...), ';')
	out.put(Server, wire.EndQuery(append(b, text...), at))
}

// judgeMove notes whether a statement would take a lazy transaction to the primary.
func (t *turn) judgeMove(v *router.Verdict, reads bool) {
	switch v.Command {
	case router.CommandCommit, router.CommandRollback:
		t.moves = t.moves || v.Flags.Has(router.TxChain|router.TxPrepared)
	case router.CommandSelect, router.CommandShow, router.CommandExplain, router.CommandEmpty:
		t.moves = t.moves || !reads || v.Flags.Has(router.State|router.LocalState|router.TxControl)
	default:
		t.moves = true
	}
	t.reads = t.reads || v.Command != router.CommandCommit && v.Command != router.CommandRollback
}

// examine decides about the next turn of a lazy transaction: it reports whether it may run on the standby. Otherwise the
// turn waits, for the rest of itself or for the primary.
func (s *Session) examine(out *Actions) bool {
	if s.sent == len(s.pend) || s.ledger.Len() > 0 || s.preparing {
		return false
	}
	s.trim(out)
	s.scan()
	t := &s.turn
	if !t.complete && !t.large && len(s.pend) < s.cfg.MaxCollected {
		return false
	}
	stays := t.complete && !t.moves && !t.flush && t.token == "" && t.hint.Target != router.TargetPrimary
	failed := s.status != wire.StatusInTransaction
	if stays || failed && t.complete && !(t.moves && t.flags.Has(router.TxControl)) {
		s.granted = true
		s.retry = retry{possible: stays && t.reads && !failed}
		return true
	}
	s.carryOver()
	out.put(Server, wire.AppendQuery(out.own(Server), "ROLLBACK"))
	s.inject(wire.OwedQuery, request{bits: abandons})
	s.preparing = true
	return false
}

// abandoned goes on with a lazy transaction that has been ended on the standby.
func (s *Session) abandoned(status byte, out *Actions) {
	s.preparing = false
	if status == wire.StatusIdle {
		s.letGo(Release, "", out)
	} else {
		s.letGo(Discard, "its transaction goes on on the primary", out)
	}
}

// carryOver sees to it that an open lazy transaction begins anew on another server, as one that is as far.
func (s *Session) carryOver() {
	if !s.lazy || s.opening == nil || s.status == wire.StatusIdle {
		return
	}
	s.settleReads(s.clock)
	s.reopening = s.opening
	switch {
	case s.status == wire.StatusFailed:
		s.failNowhere(s.opening)
	case !s.deferred: // it has read: SET TRANSACTION comes too late there as well
		s.reopening = append(append([]byte(nil), s.opening...), ";SELECT 1"...)
	}
}

// failNowhere makes the transaction that begin has opened one that has failed, and is on no server. What follows may do more
// than to end it, and is then for a server to answer, on which a transaction fails first.
func (s *Session) failNowhere(begin []byte) {
	s.status, s.deferred = wire.StatusFailed, false
	s.reopening = append(append([]byte(nil), begin...), ";ROLLBACK TO walgate_none"...)
}
