package session

import (
	"bytes"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// forward writes (the first chunk of) a client's message to the server and notes what is owed for it.
func (s *Session) forward(p wire.Piece, out *Actions) {
	s.clientChunk = chunkNone
	if s.ledger.Skipping() && p.Type != 'S' {
		s.noteDropped(p, 0)
		return
	}
	if !p.Last {
		s.clientChunk = chunkPass
	}
	body := p.Bytes[wire.HeaderLen:]
	switch p.Type {
	case 'Q':
		s.forwardQuery(p, body, out)
	case 'P':
		s.forwardParse(p, body, out)
	case 'B':
		s.forwardBind(p, body, out)
	case 'D':
		s.forwardDescribe(p, body, out)
	case 'C':
		s.forwardClose(p, body, out)
	case 'E':
		s.forwardExecute(p, body, out)
	case 'S':
		s.forwardSync(p, out)
	case 'F':
		s.push1(wire.OwedFunction, request{bits: commitsUnless(s.surelyIn())}, out)
		s.write(p.Bytes, out)
		s.group, s.granted = false, false
	case 'c', 'f':
		s.ledger.Push(wire.Owed[request]{Kind: wire.OwedCopyEnd})
		s.write(p.Bytes, out)
	default: // d, H
		s.write(p.Bytes, out)
	}
}

// surelyIn reports whether what is written now runs in a transaction, whatever the answers that are outstanding.
func (s *Session) surelyIn() bool { return s.inTx && !s.unsure }

func commitsUnless(inTx bool) bits {
	if inTx {
		return 0
	}
	return commits
}

// maxOwed bounds the requests outstanding. PostgreSQL's send buffer of 8 KB holds fewer answers than that.
const maxOwed = 8192

// push1 notes a request, and keeps their number bounded: the server is made to answer what it has.
func (s *Session) push1(kind wire.Kind, r request, out *Actions) {
	if s.ledger.Len() == 0 && s.status == wire.StatusIdle {
		s.failed = false
	}
	s.watch.start(s.clock)
	s.ledger.Push(wire.Owed[request]{Kind: kind, Ref: r})
	if s.ledger.Len() >= maxOwed && s.stopped[Client]&stopLedger == 0 {
		out.put(Server, wire.AppendEmpty(out.own(Server), 'H'))
		s.setStop(Client, stopLedger, true, out)
	}
}

// inject writes a request of our own, whose answer will be swallowed.
func (s *Session) inject(kind wire.Kind, r request) {
	s.ledger.Push(wire.Owed[request]{Kind: kind, Injected: true, Ref: r})
}

func (s *Session) forwardQuery(p wire.Piece, body []byte, out *Actions) {
	s.group, s.granted = false, false
	s.prepared.unnamedHere = false // a simple query drops the unnamed statement
	text, err := wire.ParseString(body)
	if err != nil || !p.Last { // malformed, or larger than what is looked at
		s.push1(wire.OwedQuery, request{bits: commitsUnless(s.surelyIn())}, out)
		s.unsure = true
		s.write(p.Bytes, out)
		return
	}
	v := s.turn.verdict
	if s.turn.frames != 1 || s.sent != s.turn.end || !s.copying {
		v = router.Classify(text, s.opts)
	}
	r := request{cmd: v.Command, flags: v.Flags, bits: s.commitBits(&v)}
	if tracked(&v) {
		r.effect = makeEffect(&v, text, s.opts)
	}
	s.pin(v.Command, v.Flags)
	if changed := s.rewrite(&v, text, &r, out); changed != nil {
		s.push1(wire.OwedQuery, r, out)
		b, at := wire.BeginQuery(out.own(Server))
		out.put(Server, wire.EndQuery(append(b, changed...), at))
	} else {
		s.push1(wire.OwedQuery, r, out)
		s.write(p.Bytes, out)
	}
	s.predict(&v, text)
	s.unsure = s.unsure || v.Command == router.CommandBegin // should it be refused, what follows runs outside
}

// commitBits tells what a missing answer to the statement would leave in doubt.
func (s *Session) commitBits(v *router.Verdict) (b bits) {
	if v.Command == router.CommandCommit || v.Command == router.CommandRollback || v.Command == router.CommandPrepareTx {
		b = exits
	}
	if s.status == wire.StatusIdle && !s.inTx && !s.unsure && v.Command != router.CommandMany {
		b |= outside
	}
	switch {
	case s.status == wire.StatusFailed && !s.unsure:
	case s.inTx && v.Flags.Has(router.MayCommit),
		!s.surelyIn() && v.Kind == router.Write && !harmless(v.Command):
		b |= commits
	}
	return b
}

// harmless reports whether a statement outside a transaction commits nothing that matters.
func harmless(cmd router.Command) bool {
	switch cmd {
	case router.CommandBegin, router.CommandCommit, router.CommandRollback, router.CommandSet, router.CommandReset,
		router.CommandResetAll, router.CommandShow, router.CommandEmpty, router.CommandSetTx, router.CommandDiscardAll,
		router.CommandDeallocate, router.CommandDeallocateAll, router.CommandListen, router.CommandUnlisten,
		router.CommandUnlistenAll, router.CommandSetRole, router.CommandResetRole, router.CommandSetLocal,
		router.CommandSavepoint, router.CommandRelease, router.CommandRollbackTo, router.CommandFetch:
		return true
	default:
		return false
	}
}

// predict follows transaction control of what was just written.
func (s *Session) predict(v *router.Verdict, text []byte) {
	switch v.Command {
	case router.CommandBegin:
		s.inTx = true
	case router.CommandCommit, router.CommandRollback, router.CommandPrepareTx:
		s.inTx, s.unsure = v.Flags.Has(router.TxChain), true
	case router.CommandMany:
		if !v.Flags.Has(router.TxControl | router.State) {
			return
		}
		s.unsure = true
		for at := 0; ; {
			span, next, ok := router.Split(text, at, s.opts)
			if !ok {
				return
			}
			one := router.Classify(span.In(text), s.opts)
			if one.Command != router.CommandMany {
				s.pin(one.Command, one.Flags)
				s.predict(&one, nil)
			}
			at = next
		}
	}
}

// rewrite returns the text to send instead of a statement that names prepared statements of the protocol in SQL; nil
// leaves it as it is.
func (s *Session) rewrite(v *router.Verdict, text []byte, r *request, out *Actions) []byte {
	switch v.Command {
	case router.CommandDeallocate:
		name := string(v.AppendName(nil, text))
		if s.prepared.named[name] == nil {
			return nil
		}
		r.effect = &effect{cmd: v.Command, name: name, tag: "DEALLOCATE"}
		return nothing
	case router.CommandDeallocateAll:
		if s.pins.prepare {
			return nil
		}
		r.effect = &effect{cmd: v.Command, tag: "DEALLOCATE ALL"}
		return nothing
	case router.CommandExecute:
		st := s.prepared.named[string(v.AppendName(nil, text))]
		if st == nil || st.large {
			return nil
		}
		if s.ensure(st, out) { // the Parse must not make the server skip the query if it fails
			out.put(Server, wire.AppendEmpty(out.own(Server), 'S'))
			s.inject(wire.OwedSync, request{})
		}
		b := append([]byte(nil), text[:v.Name.Start]...)
		return append(append(b, st.canonical...), text[v.Name.End:]...)
	}
	return nil
}

// nothing is a statement without effect that every server accepts, and refuses in a failed transaction.
var nothing = []byte("UNLISTEN walgate_none")

// ensure makes the server have the statement; it reports whether a Parse was injected for it.
func (s *Session) ensure(st *statement, out *Actions) bool {
	if st.canonical == "" {
		if s.prepared.unnamedHere {
			return false
		}
		s.prepared.unnamedHere = true
	} else if s.srv.statements.use(st.canonical) {
		return false
	} else {
		s.remember(st, out)
	}
	s.srv.Meter.serverParse()
	out.put(Server, wire.AppendParse(out.own(Server), st.canonical, st.text, []byte(st.types)))
	s.inject(wire.OwedParse, request{stmt: st, bits: parses})
	return true
}

// remember notes a statement in the server's cache, and closes the one for which there is no room.
func (s *Session) remember(st *statement, out *Actions) {
	for _, name := range s.srv.toClose {
		s.closeOnServer(name, out)
	}
	s.srv.toClose = nil
	if evicted := s.srv.statements.add(st.canonical); evicted != "" {
		s.closeOnServer(evicted, out)
	}
}

func (s *Session) closeOnServer(name string, out *Actions) {
	out.put(Server, wire.AppendClose(out.own(Server), 'S', name))
	s.inject(wire.OwedClose, request{effect: &effect{canonical: name}})
}

func (s *Session) forwardParse(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	s.srv.Meter.clientParse()
	if !p.Last {
		s.forwardLargeParse(p, body, out)
		return
	}
	name, text, types, err := wire.ParseParse(body)
	if err != nil || len(s.prepared.named) >= s.cfg.MaxPrepared {
		s.push1(wire.OwedParse, request{}, out)
		s.write(p.Bytes, out) // the server says what is wrong with it
		return
	}
	old := s.prepared.find(name)
	if old != nil && len(name) > 0 && !(s.retry.again && old.text == string(text) && old.types == string(types)) {
		s.forwardDuplicate(old, out)
		return
	}
	st := s.newStatement(name, text, types)
	prev := s.prepared.install(st)
	r := request{stmt: st, prev: prev, bits: parses}
	if st.canonical == "" {
		s.prepared.unnamedHere = true
		s.srv.Meter.serverParse()
		s.push1(wire.OwedParse, r, out)
		s.write(s.unnamedParse(st, p), out)
		return
	}
	if s.srv.statements.use(st.canonical) {
		r.bits, r.answer = 0, '1'
		s.local(r, out)
		return
	}
	s.remember(st, out)
	s.srv.Meter.serverParse()
	s.push1(wire.OwedParse, r, out)
	out.put(Server, wire.AppendParse(out.own(Server), st.canonical, st.text, []byte(st.types)))
}

// unnamedParse is the message for an unnamed statement, rewritten if its text must be.
func (s *Session) unnamedParse(st *statement, p wire.Piece) []byte {
	if st.effect == nil || st.effect.tag == "" {
		return p.Bytes
	}
	return wire.AppendParse(nil, "", st.text, []byte(st.types))
}

// newStatement makes a client's statement. Statements that name others are given a text that does what they mean.
func (s *Session) newStatement(name, text, types []byte) *statement {
	v := router.Classify(text, s.opts)
	st := &statement{name: string(name), text: string(text), types: string(types), verdict: v}
	var r request
	if tracked(&v) {
		r.effect = makeEffect(&v, text, s.opts)
	}
	switch v.Command {
	case router.CommandDeallocate, router.CommandDeallocateAll:
		if changed := s.rewrite(&v, text, &r, nil); changed != nil {
			st.text = string(changed)
		}
	}
	st.effect = r.effect
	if st.name != "" {
		st.canonical = canonicalName([]byte(st.text), types, s.settings.now.want)
	}
	return st
}

// forwardDuplicate lets the server refuse a name that is taken: it prepares the old statement once more.
func (s *Session) forwardDuplicate(old *statement, out *Actions) {
	if !old.large {
		s.ensure(old, out)
	}
	s.push1(wire.OwedParse, request{stmt: nil, prev: old}, out)
	out.put(Server, wire.AppendParse(out.own(Server), old.canonical, "", []byte{0, 0}))
}

// forwardLargeParse passes on a Parse that is too large to look at. A named one binds the session to the server.
func (s *Session) forwardLargeParse(p wire.Piece, body []byte, out *Actions) {
	i := bytes.IndexByte(body[:min(len(body), maxName)], 0)
	if i < 0 {
		s.push1(wire.OwedParse, request{}, out)
		s.write(p.Bytes, out)
		return
	}
	st := &statement{name: string(body[:i]), canonical: string(body[:i]), large: true}
	r := request{stmt: st}
	if st.name == "" {
		s.prepared.unnamedHere = true
	}
	s.pins.large = true
	r.prev = s.prepared.install(st)
	s.push1(wire.OwedParse, r, out)
	s.write(p.Bytes, out)
}

// maxName bounds how far a statement's name is looked for in a message that came in part.
const maxName = 4096

func (s *Session) forwardBind(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	s.srv.Meter.bound()
	portal, name, rest, err := wire.ParseBind(body)
	if err != nil {
		s.push1(wire.OwedBind, request{}, out)
		s.write(p.Bytes, out)
		return
	}
	st := s.prepared.find(name)
	if st == nil { // the server says that there is none, or has one made in SQL
		s.push1(wire.OwedBind, request{}, out)
		s.prepared.bound(portal, nil)
		s.write(p.Bytes, out)
		return
	}
	if !st.large {
		s.ensure(st, out)
	}
	s.prepared.bound(portal, st)
	s.push1(wire.OwedBind, request{stmt: st}, out)
	if st.canonical == st.name {
		s.write(p.Bytes, out)
		return
	}
	left := p.Length - int64(len(portal)+len(name)+2)
	b := wire.AppendBindHeader(out.own(Server), string(portal), st.canonical, left)
	out.put(Server, append(b, rest...))
}

func (s *Session) forwardDescribe(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	kind, name, err := wire.ParseTarget(body)
	if err != nil || kind != 'S' {
		s.push1(wire.OwedDescribePortal, request{}, out)
		s.write(p.Bytes, out)
		return
	}
	st := s.prepared.find(name)
	if st != nil && !st.large {
		s.ensure(st, out)
	}
	s.push1(wire.OwedDescribeStatement, request{stmt: st}, out)
	if st == nil || st.canonical == st.name {
		s.write(p.Bytes, out)
		return
	}
	out.put(Server, wire.AppendDescribe(out.own(Server), 'S', st.canonical))
}

func (s *Session) forwardClose(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	kind, name, err := wire.ParseTarget(body)
	if err == nil && kind == 'S' {
		if st := s.prepared.find(name); st != nil && !st.large {
			if st.name == "" {
				s.prepared.unnamedHere = false
			}
			s.prepared.remove(st.name)
			s.local(request{stmt: st, answer: '3'}, out)
			return
		}
	}
	s.push1(wire.OwedClose, request{}, out)
	s.write(p.Bytes, out)
}

func (s *Session) forwardExecute(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	portal, _, err := wire.ParseExecute(body)
	var r request
	var st *statement
	if err == nil {
		st = s.prepared.running(portal)
	}
	if st == nil || st.large {
		if !s.surelyIn() {
			s.writes = true
		}
		r.bits = commitsUnless(s.surelyIn())
		s.unsure = true
		s.push1(wire.OwedExecute, r, out)
		s.write(p.Bytes, out)
		return
	}
	v := &st.verdict
	r = request{cmd: v.Command, flags: v.Flags, bits: s.commitBits(v), stmt: st, effect: st.effect}
	if v.Command == router.CommandExecute {
		s.pins.prepare = true
	}
	if r.bits&commits != 0 && r.bits&exits == 0 {
		s.writes = true
	}
	s.pin(v.Command, v.Flags)
	s.push1(wire.OwedExecute, r, out)
	s.write(p.Bytes, out)
	s.predict(v, nil)
}

func (s *Session) forwardSync(p wire.Piece, out *Actions) {
	if s.ledger.CopyIn() {
		s.ledger.IgnoreSync()
		s.write(p.Bytes, out) // ignored by the server
		return
	}
	s.skip = false
	s.group, s.granted = false, false
	r := request{}
	if s.writes && !s.surelyIn() {
		r.bits = commits
	}
	s.unsure = s.unsure || s.inTx && s.status == wire.StatusIdle
	s.writes = false
	s.push1(wire.OwedSync, r, out)
	s.write(p.Bytes, out)
}

// local notes a request that walgate answers itself, in its turn.
func (s *Session) local(r request, out *Actions) {
	s.push1(wire.OwedLocal, r, out)
	s.answerLocals(out)
}
