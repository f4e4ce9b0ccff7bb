package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// Statements prepared in SQL are carried as those of Parse are, and in the same namespace: PREPARE keeps the text, and on
// servers the statement has a canonical name. What a client says of them is rewritten: the names in EXECUTE, and
// PREPARE and DEALLOCATE as a whole where there is nothing for the server to do.

// nothing is a statement without effect that every server accepts, and refuses in a failed transaction.
var nothing = []byte("UNLISTEN walgate_none")

// rewrite returns the text to send instead of a single statement that names prepared statements; nil leaves it as it is.
func (s *Session) rewrite(v *router.Verdict, text []byte, r *request, out *Actions) []byte {
	if v.Flags.Has(router.Executes) && v.Command != router.CommandMany {
		return s.rewriteExecute(v, text, r, out)
	}
	switch v.Command {
	case router.CommandSet, router.CommandShow, router.CommandReset:
		return s.rewriteOwn(v, text, r)
	case router.CommandMany:
		return s.rewriteMany(v, text, r, out)
	case router.CommandPrepare:
		return s.rewritePrepare(v, text, r, out)
	case router.CommandDeallocate:
		st := s.prepared.named[string(v.AppendName(nil, text))]
		if st == nil {
			return nil
		}
		r.effect = &effect{cmd: v.Command, name: st.name}
		if st.large {
			return nil
		}
		r.effect.tag = "DEALLOCATE"
		return nothing
	case router.CommandDeallocateAll:
		if s.pins.prepare || s.pins.large {
			return nil
		}
		r.effect = &effect{cmd: v.Command, tag: "DEALLOCATE ALL"}
		return nothing
	}
	return nil
}

// rewritePrepare makes PREPARE name ... a PREPARE of the canonical name, or nothing where the server has it already.
func (s *Session) rewritePrepare(v *router.Verdict, text []byte, r *request, out *Actions) []byte {
	if !v.Value.Present() || len(s.prepared.named) >= s.cfg.MaxPrepared {
		s.pins.prepare = true // the server says what is wrong with it
		return nil
	}
	name := string(v.AppendName(nil, text))
	if old := s.prepared.named[name]; old != nil {
		if s.pins.own {
			return nil
		}
		if !old.large {
			s.ensureAhead(old, out)
		}
		r.stmt = old
		return s.rename(v, text, old.canonical, r) // 42P05
	}
	st := &statement{name: name, body: s.sqlBody(v, text)}
	st.canonical = st.id
	s.srv.Meter.serverParse()
	if s.pins.own {
		r.effect = &effect{cmd: v.Command, prepares: st.own()}
		return nil
	}
	r.effect = &effect{cmd: v.Command, prepares: st}
	if e := s.srv.statements.use(st.canonical); e != nil { // PREPARE looks at its tables, and locks them, all the same
		s.forget(e, out)
	}
	s.remember(st, out)
	r.stmt, r.bits = st, r.bits|parses
	return s.rename(v, text, st.canonical, r)
}

// rename gives the name in a statement as it is on the server.
func (s *Session) rename(v *router.Verdict, text []byte, canonical string, r *request) []byte {
	e := editor{text: text}
	e.replace(int(v.Name.Start), int(v.Name.End), canonical)
	r.edits = e.edits
	return e.finish()
}

// sqlBody makes the body of PREPARE name ...: its text is the whole statement with the canonical name.
func (s *Session) sqlBody(v *router.Verdict, text []byte) *body {
	rest := string(text[v.Name.End:])
	inner := v.Value.In(text)
	b := &body{asked: rest, original: string(text), sql: true, opts: s.opts, verdict: router.Classify(inner, s.opts)}
	b.reading = s.readingText()
	b.text = rest
	// Under two names a client has two statements, whose plans may have been made under different settings.
	b.id = canonicalName(b, string(v.AppendName(nil, text)))
	b.text = "PREPARE " + b.id + rest
	b.unnamed.body = b
	return b
}

// rewriteExecute gives the statement in EXECUTE, EXPLAIN EXECUTE and CREATE TABLE AS EXECUTE its canonical name, and makes
// the server have it.
func (s *Session) rewriteExecute(v *router.Verdict, text []byte, r *request, out *Actions) []byte {
	st := s.callee(v, text, r, out)
	if st == nil {
		return nil
	}
	r.stmt = st
	return s.rename(v, text, st.canonical, r)
}

// callee makes the server have the statement that another names, and returns it; nil if there is none, or if it has it
// under its own name.
func (s *Session) callee(v *router.Verdict, text []byte, r *request, out *Actions) *statement {
	st := s.prepared.named[string(executed(v, text))]
	if st == nil {
		return nil
	}
	if v.Flags.Has(router.Executes) {
		r.flags |= st.verdict.Flags
		if out != nil {
			s.pin(v.Command, st.verdict.Flags)
		}
	}
	if st.large {
		return nil
	}
	if out != nil {
		s.ensureAhead(st, out)
	}
	return st
}

// executed returns the name in a statement that executes another.
func executed(v *router.Verdict, text []byte) []byte {
	name := *v
	name.Command = router.CommandExecute // whose name is no parameter
	return name.AppendName(nil, text)
}

// rewriteMany gives the statements that a query string executes or deallocates their canonical names. What it prepares
// itself stays on the server under its own name, and pins.
func (s *Session) rewriteMany(v *router.Verdict, text []byte, r *request, out *Actions) []byte {
	if !v.Flags.Has(router.Executes|router.State) || len(s.prepared.named) == 0 {
		return nil
	}
	e := editor{text: text}
	for at := 0; ; {
		span, next, ok := router.Split(text, at, s.opts)
		if !ok {
			break
		}
		one := span.In(text)
		v := router.Classify(one, s.opts)
		if v.Flags.Has(router.Executes) || v.Command == router.CommandDeallocate {
			var of request
			if st := s.callee(&v, one, &of, out); st != nil {
				e.replace(int(span.Start+v.Name.Start), int(span.Start+v.Name.End), st.canonical)
			}
		}
		at = next
	}
	r.edits = e.edits
	return e.finish()
}

// ensureAhead makes the server have a statement before a simple query: should that fail, the client gets this error in
// place of the query's answer.
func (s *Session) ensureAhead(st *statement, out *Actions) {
	if s.ensure(st, out) {
		s.syncAhead(out)
	}
}

// syncAhead ends what is injected ahead of a query.
func (s *Session) syncAhead(out *Actions) {
	out.put(Server, wire.AppendEmpty(out.own(Server), 'S'))
	s.inject(wire.OwedSync, request{bits: ahead})
}

// ensurePrepare injects PREPARE of a statement that was prepared in SQL.
func (s *Session) ensurePrepare(st *statement, out *Actions) {
	const portal = "wg_prepare"
	s.portals.unnamedHere = false // it is used for this
	b := wire.AppendParse(out.own(Server), "", st.text, noTypes)
	b = append(wire.AppendBindHeader(b, portal, "", 6), 0, 0, 0, 0, 0, 0)
	b = wire.AppendExecute(b, portal, 0)
	out.put(Server, wire.AppendClose(b, 'P', portal))
	s.inject(wire.OwedParse, request{})
	s.inject(wire.OwedBind, request{})
	s.inject(wire.OwedExecute, request{stmt: st, bits: parses})
	s.inject(wire.OwedClose, request{})
}

// prepareFailed takes back what PREPARE has noted.
func (s *Session) prepareFailed(r *request) {
	if r.effect != nil && r.effect.prepares != nil && r.bits&parses != 0 {
		s.srv.statements.remove(r.effect.prepares.canonical)
	}
}

// applyPrepared does what a successful PREPARE or DEALLOCATE means for the prepared statements.
func (s *Session) applyPrepared(cmd router.Command, e *effect) {
	switch {
	case e != nil && e.own != nil:
		s.runOwn(e.own)
	case cmd == router.CommandDeallocateAll:
		s.prepared.named = nil
	case e == nil:
		s.pins.prepare = s.pins.prepare || cmd == router.CommandPrepare
	case cmd == router.CommandDeallocate:
		if st := s.prepared.named[e.name]; st != nil && e.tag == "" { // it was carried out
			s.srv.statements.remove(st.canonical)
		}
		s.prepared.remove(e.name)
	case e.prepares != nil:
		s.prepared.install(e.prepares)
	case e.name != "": // in a string of several statements: it is on this server only
		s.pins.prepare = true
		s.prepared.install(&statement{name: e.name, canonical: e.name, body: &body{large: true, verdict: e.verdict}})
	}
}
