package session

import (
	"bytes"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

func (s *Session) forwardParse(p wire.Piece, body []byte, out *Actions) {
	first := !s.group
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
	if s.mode == PoolStatement && s.opensBlock(text) {
		s.push1(wire.OwedParse, request{bits: refused}, out)
		out.put(Server, wire.AppendParse(out.own(Server), "", failing, noTypes))
		return
	}
	st := s.newStatement(name, text, types)
	if first && s.wantsOwn(&st.verdict, text) {
		s.takeOwn(out)
	}
	old := s.prepared.find(name)
	if len(name) > 0 && s.pins.own {
		s.forwardOwnParse(p, old, st, out)
		return
	}
	if old != nil && len(name) > 0 && !(s.retry.again && old.text == string(text) && old.types == string(types)) {
		s.forwardDuplicate(old, text, types, out)
		return
	}
	s.naming.changes = s.naming.changes || len(name) > 0
	prev := s.prepared.install(st)
	r := request{stmt: st, prev: prev, bits: parses | st.bits&refused, effect: st.effect}
	if st.canonical == "" {
		s.portals.unnamedHere = true
		s.srv.Meter.serverParse()
		s.push1(wire.OwedParse, r, out)
		s.write(s.unnamedParse(st, p), out)
		return
	}
	if e := s.srv.statements.use(st.canonical); e != nil {
		// In a transaction that may have failed only the server can tell: it prepares it once more.
		if e.stamp == s.srv.stamp() && !s.warns(st) && (endsTransaction(st) || !s.mayHaveFailed()) {
			r.bits, r.answer = 0, '1'
			s.local(r, out)
			return
		}
		s.forget(e, out) // a client that parses expects to be told what is valid now
	}
	s.remember(st, out)
	s.srv.Meter.serverParse()
	s.push1(wire.OwedParse, r, out)
	out.put(Server, wire.AppendParse(out.own(Server), st.canonical, st.text, []byte(st.types)))
}

func (s *Session) opensBlock(text []byte) bool {
	v := router.Classify(text, s.opts)
	return s.refuses(&v)
}

// forwardOwnParse passes on a Parse to a server that has the client's statements under their own names.
func (s *Session) forwardOwnParse(p wire.Piece, old, st *statement, out *Actions) {
	var r request
	if old == nil { // else the server refuses it
		r.stmt = st.own()
		s.prepared.install(r.stmt)
	}
	s.srv.Meter.serverParse()
	s.push1(wire.OwedParse, r, out)
	s.write(p.Bytes, out)
}

// noTypes is an empty list of parameter types.
var noTypes = []byte{0, 0}

// unnamedParse is the message for an unnamed statement, rewritten if its text must be.
func (s *Session) unnamedParse(st *statement, p wire.Piece) []byte {
	now := s.present(st)
	if now.text == st.asked {
		return p.Bytes
	}
	return wire.AppendParse(nil, "", now.text, []byte(now.types))
}

// forwardDuplicate lets the server refuse a name that is taken, or whatever else it finds wrong before that: it prepares
// the new statement under the name of the old one.
func (s *Session) forwardDuplicate(old *statement, text, types []byte, out *Actions) {
	if !old.large {
		s.ensure(old, out)
	}
	s.push1(wire.OwedParse, request{stmt: nil, prev: old}, out)
	out.put(Server, wire.AppendParse(out.own(Server), old.canonical, string(text), types))
}

// forwardLargeParse passes on a Parse that is too large to look at. A named one binds the session to the server.
func (s *Session) forwardLargeParse(p wire.Piece, text []byte, out *Actions) {
	i := bytes.IndexByte(text[:min(len(text), maxName)], 0)
	if i < 0 {
		s.push1(wire.OwedParse, request{}, out)
		s.write(p.Bytes, out)
		return
	}
	name := string(text[:i])
	st := &statement{name: name, canonical: name, body: &body{large: true}}
	r := request{stmt: st}
	if st.name == "" {
		s.portals.unnamedHere = true
	}
	s.pins.large = true
	r.prev = s.prepared.install(st)
	s.push1(wire.OwedParse, r, out)
	s.write(p.Bytes, out)
}

// maxName bounds how far a statement's name is looked for in a message that came in part.
const maxName = 4096

// forwardBind reports whether it took the frame; if not, it must be given again when the server has answered.
func (s *Session) forwardBind(p wire.Piece, body []byte, out *Actions) bool {
	first := !s.group
	s.group = true
	portal, name, rest, err := wire.ParseBind(body)
	if err != nil {
		s.push1(wire.OwedBind, request{}, out)
		s.write(p.Bytes, out)
		return true
	}
	st := s.prepared.find(name)
	if first && st != nil && !st.large && s.wantsOwn(&st.verdict, nil) {
		s.takeOwn(out)
		st = s.prepared.find(name)
	}
	if st == nil { // the server says that there is none, or has one made in SQL
		s.push1(wire.OwedBind, request{}, out)
		s.portals.bound(portal, nil)
		s.write(p.Bytes, out)
		return true
	}
	after := rest
	if p.Last && st.verdict.Flags.Has(router.Processes) {
		after = s.presentParameters(rest)
		if st.canonical != "" {
			st = s.present(st)
		}
	}
	switch s.provide(st, out) {
	case notYet:
		return false
	case hasChanged:
		s.refuseChanged(out)
		return true
	}
	s.srv.Meter.bound()
	s.portals.bound(portal, st)
	if st.effect != nil || s.portals.sets != nil {
		s.portals.binds(portal, bindLocals(st.effect, rest, p.Last))
	}
	s.push1(wire.OwedBind, request{stmt: st}, out)
	if st.canonical == st.name && len(after) == len(rest) && (len(rest) == 0 || &after[0] == &rest[0]) {
		s.write(p.Bytes, out)
		return true
	}
	left := p.Length - int64(len(portal)+len(name)+2+len(rest)-len(after))
	b := wire.AppendBindHeader(out.own(Server), string(portal), st.canonical, left)
	out.put(Server, append(b, after...))
	return true
}

// forwardDescribe reports, as forwardBind does, whether it took the frame.
func (s *Session) forwardDescribe(p wire.Piece, body []byte, out *Actions) bool {
	s.group = true
	kind, name, err := wire.ParseTarget(body)
	if err != nil || kind != 'S' {
		s.push1(wire.OwedDescribePortal, request{stmt: s.portals.running(name)}, out)
		s.write(p.Bytes, out)
		return true
	}
	st := s.prepared.find(name)
	if st != nil {
		switch s.provide(st, out) {
		case notYet:
			return false
		case hasChanged:
			s.refuseChanged(out)
			return true
		}
	}
	s.push1(wire.OwedDescribeStatement, request{stmt: st}, out)
	if st == nil || st.canonical == st.name {
		s.write(p.Bytes, out)
		return true
	}
	out.put(Server, wire.AppendDescribe(out.own(Server), 'S', st.canonical))
	return true
}

func (s *Session) forwardClose(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	kind, name, err := wire.ParseTarget(body)
	if err == nil && kind == 'S' {
		st := s.prepared.find(name)
		if st != nil {
			s.prepared.remove(st.name)
		}
		if st != nil && !st.large {
			if st.name == "" {
				s.portals.unnamedHere = false
			}
			s.naming.changes = s.naming.changes || st.name != ""
			s.local(request{stmt: st, answer: '3'}, out)
			return
		}
		s.push1(wire.OwedClose, request{stmt: st}, out)
	} else {
		s.push1(wire.OwedClose, request{}, out)
	}
	s.write(p.Bytes, out)
}

func (s *Session) forwardExecute(p wire.Piece, body []byte, out *Actions) {
	s.group = true
	portal, rows, err := wire.ParseExecute(body)
	var r request
	var st *statement
	if err == nil {
		st = s.portals.running(portal)
	}
	if st == nil || st.large {
		if !s.surelyIn() {
			s.writes = true
		}
		r.flags, r.bits = router.MayCommit, commitsUnless(s.surelyIn())
		s.advanced, s.opening = true, nil
		s.unsure = true
		s.define(router.CommandMany, router.Defines)
		s.push1(wire.OwedExecute, r, out)
		s.write(p.Bytes, out)
		return
	}
	v := &st.verdict
	if s.recallsNothing(v) {
		s.push1(wire.OwedParse, request{bits: recalls}, out)
		out.put(Server, wire.AppendParse(out.own(Server), "", failing, noTypes))
		return
	}
	s.noteHushed(v.Flags, nil, st.text)
	s.opens(v, nil, st.text, rows)
	s.async = s.async || st.async
	r = request{cmd: v.Command, flags: v.Flags, bits: s.commitBits(v) | st.bits, stmt: st, effect: st.effect}
	switch {
	case v.Command == router.CommandPrepare:
		s.pins.prepare = true // not carried
	case st.inner != nil:
		r.flags |= st.inner.verdict.Flags
		s.pin(v.Command, st.inner.verdict.Flags)
	}
	if bound := s.portals.sets[string(portal)]; bound != nil {
		r.effect = bound
	}
	if s.mayReread(v, r.effect) {
		r.bits |= rereads
		s.naming.rereads, s.naming.flushed, s.naming.changes = true, false, true
	}
	if r.bits&commits != 0 && r.bits&exits == 0 {
		s.writes = true
	}
	s.pin(v.Command, v.Flags)
	s.define(v.Command, v.Flags)
	s.push1(wire.OwedExecute, r, out)
	s.write(p.Bytes, out)
	s.predict(v, nil)
	s.copyPending = s.copyPending || v.Command == router.CommandCopyIn
}

func (s *Session) forwardSync(p wire.Piece, out *Actions) {
	if s.ledger.CopyIn() {
		s.ledger.IgnoreSync()
		s.write(p.Bytes, out) // ignored by the server
		return
	}
	s.skip = false
	s.group, s.granted = false, false
	s.naming.turned()
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
