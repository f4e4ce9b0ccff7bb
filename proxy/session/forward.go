package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// forward writes (the first chunk of) a client's message to the server and notes what is owed for it. It reports whether
// the message was taken; if not, it must be given again, whole, when the server has answered.
func (s *Session) forward(p wire.Piece, out *Actions) (taken bool) {
	s.clientChunk = chunkNone
	if s.ledger.Skipping() && p.Type != 'S' {
		s.noteDropped(p, 0)
		return true
	}
	if !p.Last {
		s.clientChunk = chunkPass
	}
	body := p.Bytes[wire.HeaderLen:]
	if s.behindCopy(p, out) {
		return false
	}
	if s.inTx && !onPrimary(s.srv) && s.target() != router.TargetReplica {
		switch s.belongs(p, body, out) {
		case waits:
			return false
		case refuses:
			s.refuseHere(p, out)
			return true
		}
	}
	switch p.Type {
	case 'Q':
		s.forwardQuery(p, body, out)
	case 'P':
		s.forwardParse(p, body, out)
	case 'B':
		return s.forwardBind(p, body, out)
	case 'D':
		return s.forwardDescribe(p, body, out)
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
		s.naming.turned()
	case 'c', 'f':
		s.ledger.Push(wire.Owed[request]{Kind: wire.OwedCopyEnd})
		s.write(p.Bytes, out)
	default: // d, H
		s.copied = s.copied || p.Type == 'd'
		s.write(p.Bytes, out)
	}
	return true
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
	if s.ledger.Len() == 0 && s.status == wire.StatusIdle && !s.ledger.Skipping() { // else this is the Sync behind an error
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
	s.portals.unnamedHere = false // a simple query drops the unnamed statement
	text, err := wire.ParseString(body)
	s.naming.turned()
	if err != nil || !p.Last { // malformed, or larger than what is looked at
		s.push1(wire.OwedQuery, request{flags: router.MayCommit, bits: commitsUnless(s.surelyIn())}, out)
		s.unsure, s.advanced, s.opening = true, true, nil
		s.define(router.CommandMany, router.Defines)
		s.write(p.Bytes, out)
		return
	}
	v := s.turn.verdict
	if s.turn.frames != 1 || s.sent != s.turn.end || !s.copying {
		v = router.Classify(text, s.opts)
	}
	if s.refuses(&v) {
		s.push1(wire.OwedQuery, request{bits: refused}, out)
		out.put(Server, wire.AppendQuery(out.own(Server), failing))
		return
	}
	if s.recallsNothing(&v) {
		s.push1(wire.OwedQuery, request{bits: recalls}, out)
		out.put(Server, wire.AppendQuery(out.own(Server), failing))
		return
	}
	s.noteHushed(v.Flags, text, "")
	s.opens(&v, text, "", 0)
	s.naming.unsettled = s.naming.unsettled || renames(&v)
	r := request{cmd: v.Command, flags: v.Flags, bits: s.commitBits(&v)}
	if tracked(&v) {
		r.effect = makeEffect(&v, text, s.opts)
	}
	if s.mayReread(&v, r.effect) {
		r.bits |= rereads
		s.naming.rereads, s.naming.flushed, s.naming.unsettled = true, false, true
	}
	s.pin(v.Command, v.Flags)
	s.define(v.Command, v.Flags)
	s.async = s.async || switchesAsync(&v, text)
	if s.wantsOwn(&v, text) {
		s.takeOwn(out)
	}
	changed := s.rewrite(&v, text, &r, out)
	if r.flags.Has(router.Processes) {
		changed = s.rewriteProcesses(changed, text, &r)
	}
	switch {
	case s.swift && changed != nil:
		s.beginQuery(changed, r, out)
	case s.swift:
		s.beginQuery(text, r, out)
	case changed != nil:
		s.push1(wire.OwedQuery, r, out)
		b, at := wire.BeginQuery(out.own(Server))
		out.put(Server, wire.EndQuery(append(b, changed...), at))
	default:
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
	case s.status == wire.StatusFailed && !s.unsure && v.Command != router.CommandMany:
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

// failing is a statement that no server accepts, at any time.
const failing = "transaction block refused"

// refuses reports whether a statement would open a transaction block where there may be none.
func (s *Session) refuses(v *router.Verdict) bool {
	return s.mode == PoolStatement && v.Flags.Has(router.TxControl) &&
		(v.Command == router.CommandBegin || v.Command == router.CommandMany)
}

// recallsNothing reports whether a statement asks for the last value of a sequence though nothing has advanced one since
// the session got the server connection: the answer would be another session's. It notes what may advance sequences.
func (s *Session) recallsNothing(v *router.Verdict) bool {
	if v.Flags.Has(router.Recalls) && !v.Flags.Has(router.Sequence) && v.Command != router.CommandMany && !s.advanced &&
		s.mode != PoolSession {
		return true
	}
	s.advanced = s.advanced || v.Kind == router.Write && !harmless(v.Command)
	return false
}

// ensure makes the server have the statement; it reports whether a Parse was injected for it.
func (s *Session) ensure(st *statement, out *Actions) bool {
	if st.inner != nil {
		s.ensure(st.inner, out)
	}
	if st.canonical == "" {
		if s.portals.unnamedHere {
			return false
		}
		st = s.present(st)
		s.portals.unnamedHere = true
	} else if s.srv.statements.use(st.canonical) != nil {
		return false
	} else {
		s.remember(st, out)
	}
	s.srv.Meter.serverParse()
	s.naming.ensured(s.group)
	how, back := s.parsing(st), ""
	if how == parsedBehind {
		back = s.readAs(st, out)
	}
	if st.sql {
		s.ensurePrepare(st, out)
	} else {
		out.put(Server, wire.AppendParse(out.own(Server), st.canonical, st.text, []byte(st.types)))
		s.inject(wire.OwedParse, request{stmt: st, bits: parses})
	}
	switch {
	case how == parsedBehind:
		s.injectSelect(back, 0, out)
	case how == parsedUnknown && st.canonical != "": // of no use to others
		s.srv.statements.remove(st.canonical)
		s.srv.toClose = append(s.srv.toClose, st.canonical)
	}
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
	s.srv.statements.newest.stamp = s.srv.stamp()
}

func (s *Session) closeOnServer(name string, out *Actions) {
	out.put(Server, wire.AppendClose(out.own(Server), 'S', name))
	s.inject(wire.OwedClose, request{closed: name})
}
