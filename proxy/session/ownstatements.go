package session

import (
	"bytes"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// A client that looks at the prepared statements of its server, or runs code that may name one, must find its own there
// and nobody else's. Its server connection is then given just these, under the names that the client gave them, and kept.

// wantsOwn reports whether a statement needs the client's own statements on the server.
func (s *Session) wantsOwn(v *router.Verdict, text []byte) bool {
	if s.pins.own || s.status == wire.StatusFailed {
		return false
	}
	if v.Flags.Has(router.OwnStatements) {
		return true
	}
	if !v.Flags.Has(router.Opaque) || v.Flags.Has(router.Executes) {
		return false
	}
	for name, st := range s.prepared.named { // those of Parse are not for SQL to name
		if st.sql && bytes.Contains(text, []byte(name)) {
			return true
		}
	}
	return false
}

// takeOwn makes the statements on the server the client's own. No group may be open. What can't be prepared any more stays
// as it is carried, so that whoever executes it gets the error.
func (s *Session) takeOwn(out *Actions) {
	s.pins.own, s.pins.prepare = true, true
	names := append(s.srv.statements.names(), s.srv.toClose...)
	s.srv.toClose = nil
	for _, name := range names {
		s.closeOnServer(name, out)
	}
	s.srv.statements.clear()
	s.syncQuietly(out)
	for name, st := range s.prepared.named {
		if st.large {
			continue
		}
		own := st.own()
		s.prepared.named[name] = own
		s.srv.Meter.serverParse()
		if s.status == wire.StatusInTransaction { // which an error must not end; statements outlive the rollback
			s.injectQuery("SAVEPOINT walgate_own", nil, out)
		}
		behind := s.parsing(st) == parsedBehind
		if st.sql {
			s.injectOwnPrepare(st, own, behind, out)
		} else {
			if behind { // up to Sync, or the savepoint
				there, _ := s.rereading(st)
				s.injectSelect(there, mayFail, out)
			}
			out.put(Server, wire.AppendParse(out.own(Server), name, st.asked, []byte(st.types)))
			s.inject(wire.OwedParse, request{stmt: own, bits: mayFail})
			s.syncQuietly(out)
		}
		if s.status == wire.StatusInTransaction {
			s.injectQuery("ROLLBACK TO walgate_own; RELEASE walgate_own", nil, out)
		}
	}
}

// injectOwnPrepare injects the PREPARE that the client has sent.
func (s *Session) injectOwnPrepare(st, own *statement, behind bool, out *Actions) {
	block := behind && s.status != wire.StatusInTransaction // else there is a savepoint
	if block {
		s.injectQuery("BEGIN", nil, out)
	}
	if behind {
		there, _ := s.rereading(st)
		s.injectQuery(there, nil, out)
	}
	s.injectQuery(st.original, own, out)
	if block {
		s.injectQuery("ROLLBACK", nil, out)
	}
}

// injectQuery injects a simple query, which prepares st unless that is nil.
func (s *Session) injectQuery(sql string, st *statement, out *Actions) {
	out.put(Server, wire.AppendQuery(out.own(Server), sql))
	s.inject(wire.OwedQuery, request{stmt: st, bits: mayFail})
}

func (s *Session) syncQuietly(out *Actions) {
	out.put(Server, wire.AppendEmpty(out.own(Server), 'S'))
	s.inject(wire.OwedSync, request{bits: mayFail})
}

// ownFailed notes that a statement could not be prepared under its own name.
func (s *Session) ownFailed(st *statement) {
	if st != nil && st.carried != nil && s.prepared.named[st.name] == st {
		s.prepared.named[st.name] = st.carried
	}
}

// own returns the statement as it is on a server that has the client's own.
func (st *statement) own() *statement {
	b := *st.body
	b.large = true
	return &statement{name: st.name, canonical: st.name, body: &b, carried: st}
}

// giveUpOwn makes statements that were lost with their server ones that are carried, where that is possible.
func (p *prepared) giveUpOwn() {
	for name, st := range p.named {
		switch {
		case st.carried != nil:
			p.named[name] = st.carried
		case st.large:
			delete(p.named, name)
		}
	}
}
