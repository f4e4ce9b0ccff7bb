package session

import (
	"strconv"
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// walgate's own parameters are answered here, when they are alone in their turn and no transaction is open; else the
// server is sent a statement that keeps the order of answers, and knows nothing of them. Only the token is asked of the
// primary.

// own is SET, SHOW or RESET of one of walgate's own parameters.
type own struct {
	cmd         router.Command
	name, value string // value of SET; the default if it is empty
}

// local reports whether it is answered without a server.
func (o *own) local() bool { return o.cmd != router.CommandShow || o.name != ownToken }

var ownNames = [...]string{ownTarget, ownConsistency, ownMaxLag, ownFallback, ownTransactions, ownTag, ownToken, ownRoute}

// ownStatement reads a statement about one of walgate's own parameters; nil if it is none, or not to be read.
func (s *Session) ownStatement(v *router.Verdict, text []byte) *own {
	switch v.Command {
	case router.CommandSet, router.CommandShow, router.CommandReset:
	default:
		return nil
	}
	for _, name := range ownNames {
		if !v.NameIs(text, name) {
			continue
		}
		o := &own{cmd: v.Command, name: name}
		if v.Command == router.CommandSet && !v.Flags.Has(router.ValueDefault) {
			value, ok := v.AppendValue(nil, text, s.opts)
			if !ok {
				return nil
			}
			o.value = string(value)
			if o.value == "" && name != ownTag {
				o.value = " " // no value is valid, rather than the default
			}
		}
		return o
	}
	return nil
}

// noteOwn notes whose statement a frame of the turn is about.
func (t *turn) noteOwn(o *own) {
	if o != nil && o.local() {
		t.own = true
	} else {
		t.foreign = true
	}
}

// check says why SET is refused.
func (o *own) check() *wire.ErrorFields {
	if o.cmd != router.CommandSet || o.value == "" && o.name != ownRoute {
		return nil
	}
	return checkOwn(severityError, o.name, o.value)
}

// runOwn carries out SET, which has been checked, or RESET. A token that was lost is told of at the next read, unless lost
// is looked at.
func (s *Session) runOwn(o *own) (lost bool) {
	switch {
	case o.cmd == router.CommandShow:
	case o.name == ownToken:
		if t, ok := router.ParseCausalToken(o.value); ok {
			return s.consistency.Raise(t, s.view())
		}
	case o.cmd == router.CommandReset || o.value == "":
		s.settings.reset(o.name)
	default:
		s.settings.set(o.name, o.value)
	}
	return false
}

// showOwn returns the row that SHOW answers.
func (s *Session) showOwn(name string) (columns, values []string) {
	r, tag := s.reads()
	value := ""
	switch name {
	case ownTarget:
		value = r.Target.String()
	case ownConsistency:
		value = r.Level.String()
	case ownFallback:
		if value = r.Fallback.String(); value == "" {
			value = router.FallbackPrimary.String()
		}
	case ownTransactions:
		if value = r.Transactions.String(); value == "" {
			value = router.TransactionsAtBegin.String()
		}
	case ownMaxLag:
		value = r.lagText()
	case ownTag:
		value = tag
	case ownRoute:
		return routeColumns[:], s.route.row()
	}
	return []string{name}, []string{value}
}

// lagText words both limits.
func (r *Reads) lagText() string {
	var parts []string
	if r.MaxLag > 0 {
		parts = append(parts, r.MaxLag.String())
	}
	if r.MaxLagBytes > 0 {
		parts = append(parts, strconv.FormatInt(r.MaxLagBytes, 10)+"B")
	}
	if parts == nil {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// verb is the command tag.
func (o *own) verb() string {
	switch o.cmd {
	case router.CommandShow:
		return "SHOW"
	case router.CommandReset:
		return "RESET"
	default:
		return "SET"
	}
}

// answerOwn answers a turn of nothing but statements about own parameters; it reports whether it did.
func (s *Session) answerOwn(out *Actions) bool {
	for rest := s.pend[:s.turn.end]; len(rest) > 0; {
		var cutter wire.Cutter
		p, n, err := cutter.Cut(rest, true)
		if err != nil || n == 0 {
			return false
		}
		rest = rest[n:]
		if p.Type != 'P' {
			continue
		}
		if name, _, _, err := wire.ParseParse(p.Bytes[wire.HeaderLen:]); err != nil || len(name) > 0 && s.prepared.find(name) != nil {
			return false // the server says what is wrong with it
		}
	}
	formats := map[string]byte{}
	failed, end := false, s.turn.end
	for rest := s.pend[:end]; len(rest) > 0; {
		var cutter wire.Cutter
		p, n, _ := cutter.Cut(rest, true)
		rest = rest[n:]
		switch {
		case p.Type == 'S', p.Type == 'Q' && s.ownQuery(p.Bytes[wire.HeaderLen:], out):
			failed = false
			s.tellReady(out)
		case !failed:
			failed = s.ownFrame(p.Type, p.Bytes[wire.HeaderLen:], formats, out)
		}
	}
	s.settings.committed()
	s.portals.ended()
	s.turns++
	s.consume(end, out)
	return true
}

// ownQuery answers a simple query.
func (s *Session) ownQuery(body []byte, out *Actions) bool {
	text, _ := wire.ParseString(body)
	v := router.Classify(text, s.opts)
	o := s.ownStatement(&v, text)
	if o == nil {
		panic("invariant: the turn has been looked at")
	}
	if columns, _ := s.showOwn(o.name); o.cmd == router.CommandShow {
		out.put(Client, wire.AppendTextColumns(out.own(Client), columns, 0))
	}
	s.executeOwn(o, out)
	return true
}

// ownFrame answers a frame of the extended protocol; it reports whether that was an error.
func (s *Session) ownFrame(typ byte, body []byte, formats map[string]byte, out *Actions) (failed bool) {
	b := out.own(Client)
	switch typ {
	case 'P':
		name, text, types, _ := wire.ParseParse(body)
		s.prepared.install(s.newStatement(name, text, types))
		b = wire.AppendEmpty(b, '1')
	case 'B':
		portal, name, rest, _ := wire.ParseBind(body)
		st := s.prepared.find(name)
		if st == nil || st.about == nil {
			return s.noPortal(out)
		}
		s.portals.bound(portal, st)
		formats[string(portal)] = resultFormat(rest)
		b = wire.AppendEmpty(b, '2')
	case 'D':
		kind, name, _ := wire.ParseTarget(body)
		st, format := s.prepared.find(name), byte(0)
		if kind == 'S' {
			b = append(b, 't', 0, 0, 0, 6, 0, 0)
		} else {
			st, format = s.portals.running(name), formats[string(name)]
		}
		if st == nil || st.about == nil {
			out.put(Client, b)
			return s.noPortal(out)
		}
		if st.about.cmd != router.CommandShow {
			b = wire.AppendEmpty(b, 'n')
			break
		}
		columns, _ := s.showOwn(st.about.name)
		b = wire.AppendTextColumns(b, columns, format)
	case 'E':
		portal, _, _ := wire.ParseExecute(body)
		st := s.portals.running(portal)
		if st == nil || st.about == nil {
			return s.noPortal(out)
		}
		return s.executeOwn(st.about, out)
	case 'C':
		if kind, name, err := wire.ParseTarget(body); err == nil && kind == 'S' {
			s.prepared.remove(string(name))
		}
		b = wire.AppendEmpty(b, '3')
	}
	out.put(Client, b)
	return false
}

// noPortal refuses what names no statement or portal about own parameters.
func (s *Session) noPortal(out *Actions) bool {
	s.say(errNoPortal, out)
	return true
}

// executeOwn carries one out and answers it, without its columns; it reports whether that was an error.
func (s *Session) executeOwn(o *own, out *Actions) (failed bool) {
	if refused := o.check(); refused != nil {
		s.erred++
		s.say(refused, out)
		return true
	}
	if o.cmd == router.CommandShow {
		_, values := s.showOwn(o.name)
		out.put(Client, wire.AppendTextRow(out.own(Client), values))
	} else if s.runOwn(o) {
		if s.cfg.LostWrites == LostError {
			s.erred++
			s.say(errLostToken(severityError), out)
			return true
		}
		out.put(Client, wire.AppendNoticeResponse(out.own(Client), *errLostToken(severityWarning)))
	}
	out.put(Client, wire.AppendCommandComplete(out.own(Client), o.verb()))
	return false
}

// resultFormat reads the format of the first column out of a Bind message, behind its names.
func resultFormat(rest []byte) byte {
	skip := func(n int) bool {
		ok := n >= 0 && len(rest) >= n
		if ok {
			rest = rest[n:]
		}
		return ok
	}
	count := func() int {
		if len(rest) < 2 {
			return -1
		}
		n := int(rest[0])<<8 | int(rest[1])
		rest = rest[2:]
		return n
	}
	if !skip(2 * count()) {
		return 0
	}
	for range count() {
		if len(rest) < 4 {
			return 0
		}
		size := int(int32(uint32(rest[0])<<24 | uint32(rest[1])<<16 | uint32(rest[2])<<8 | uint32(rest[3])))
		if !skip(4) || size > 0 && !skip(size) {
			return 0
		}
	}
	if n := count(); n > 0 && len(rest) >= 2 {
		return rest[1]
	}
	return 0
}

// tokenQuery asks for what a session with the settings of this one has written at most. The epoch is added to the answer.
const tokenQuery = `SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()` +
	` WHEN pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.pg_current_wal_insert_lsn()` +
	` ELSE pg_catalog.pg_current_wal_flush_lsn() END)::pg_catalog.text AS "walgate.token"`

// rewriteOwn returns what the server is sent instead of a statement about own parameters; nil if it is none.
func (s *Session) rewriteOwn(v *router.Verdict, text []byte, r *request) []byte {
	o := s.ownStatement(v, text)
	switch {
	case o == nil:
		return nil
	case !o.local():
		r.bits |= tokens
		return []byte(tokenQuery)
	}
	if refusal := o.check(); refusal != nil {
		r.bits, r.effect = refused, &effect{refusal: refusal}
		return []byte(failing)
	}
	r.effect = &effect{cmd: o.cmd, own: o, tag: o.verb()}
	if o.cmd != router.CommandShow {
		return nothing
	}
	b := []byte("SELECT ")
	columns, values := s.showOwn(o.name)
	for i := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(appendLiteral(b, values[i]), `::pg_catalog.text AS "`...), columns[i]...)
		b = append(b, '"')
	}
	return b
}

// aboutOwn returns the body of a statement about own parameters, as it is run on servers.
func (s *Session) aboutOwn(shared *body) *body {
	asked := []byte(shared.asked)
	o := s.ownStatement(&shared.verdict, asked)
	if o == nil {
		return shared
	}
	var r request
	b := *shared
	b.text = string(s.rewriteOwn(&shared.verdict, asked, &r))
	b.about, b.effect, b.bits, b.unnamed.body = o, r.effect, r.bits, &b
	b.verdict = router.Verdict{Kind: router.Read, Command: router.CommandSelect, Statements: 1}
	if r.bits&tokens != 0 {
		b.verdict.Kind = router.Write
	}
	b.id = canonicalName(&b)
	return &b
}

// refusal is the error in place of the server's.
func (r *request) refusal() *wire.ErrorFields {
	if r.effect != nil && r.effect.refusal != nil {
		return r.effect.refusal
	}
	return refusal(r.bits)
}

// showToken passes on the row of tokenQuery with the epoch.
func (s *Session) showToken(p wire.Piece, out *Actions) {
	const head = wire.HeaderLen + 2 + 4
	if !p.Last || len(p.Bytes) < head {
		s.show(p, out, false)
		return
	}
	position, err := replication.ParseLSN(string(p.Bytes[head:]))
	if err != nil {
		s.show(p, out, false)
		return
	}
	s.retry.possible = false
	s.flushHeld(out)
	token := router.CausalToken{Epoch: s.attachedIn, Position: position}
	out.put(Client, wire.AppendTextRow(out.own(Client), []string{token.String()}))
}

// hinted takes over what a comment asks for. The query string is text or else stored.
func (s *Session) hinted(t *turn, hint *router.Hint, text []byte, stored string) {
	if hint.Target != router.TargetUnset {
		t.hint.Target = hint.Target
	}
	if hint.Level != router.LevelUnset {
		t.hint.Level = hint.Level
	}
	if !hint.Tag.Present() && !hint.Token.Present() {
		return
	}
	if text != nil {
		stored = string(text)
	}
	part := func(span router.Span) string {
		if !span.Present() || int(span.End) > len(stored) {
			return ""
		}
		return stored[span.Start:span.End]
	}
	if tag := part(hint.Tag); tag != "" && len(tag) <= maxTag {
		t.tag = tag
	}
	if token := part(hint.Token); token != "" {
		t.token = token
	}
}

// takeToken makes the session see what a comment gave a token of; it returns why that is refused.
func (s *Session) takeToken(t *turn, out *Actions) *wire.ErrorFields {
	if t.token == "" {
		return nil
	}
	text := t.token
	t.token = ""
	if refused := checkOwn(severityError, ownToken, text); refused != nil {
		return refused
	}
	if !s.runOwn(&own{cmd: router.CommandSet, name: ownToken, value: text}) {
		return nil
	}
	if s.cfg.LostWrites == LostError {
		return errLostToken(severityError)
	}
	out.put(Client, wire.AppendNoticeResponse(out.own(Client), *errLostToken(severityWarning)))
	return nil
}

// withoutOwn returns the settings that are not walgate's own.
func withoutOwn(list []setting) []setting {
	var others []setting
	for _, e := range list {
		if !strings.HasPrefix(e.name, ownPrefix) {
			others = append(others, e)
		}
	}
	return others
}
