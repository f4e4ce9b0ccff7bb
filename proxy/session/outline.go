package session

import (
	"bytes"
	"encoding/binary"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// A client that has been told what a statement takes and returns goes on by that, in binary formats above all. PostgreSQL
// refuses to run a statement whose result has changed since. walgate prepares statements again on other servers, where
// the change would not be noticed: so it compares what the client was told with what the server has, before the statement
// runs, and answers as PostgreSQL does.

// outline is digests of a statement's parameter types and of its columns; 0 is what is not known.
type outline struct{ rows, params uint32 }

// noRows is the digest of a statement that returns nothing.
const noRows = 1

// fits reports whether a server's statement is what a client was told. An outline of which less is known than was told
// does not fit.
func (o outline) fits(told outline) bool {
	return o.rows == told.rows && (told.params == 0 || o.params == told.params)
}

// covers reports whether all is known that a client was told.
func (o outline) covers(told outline) bool {
	return o.rows != 0 && (told.params == 0 || o.params != 0)
}

// tells returns where it is kept what the client was told of a statement.
func (s *Session) tells(st *statement) *outline {
	if st.canonical == "" {
		return &s.prepared.unnamedTold
	}
	return &st.told
}

// provision says whether a statement may be used on the server.
type provision uint8

const (
	provided   provision = iota
	notYet               // the server has been asked what it is: the client's frame must wait
	hasChanged           // it is not what the client was told
)

// provide makes the server have the statement as the client knows it.
func (s *Session) provide(st *statement, out *Actions) provision {
	told := s.tells(st)
	switch {
	case s.asked == st:
		s.asked = nil
		if s.found.covers(*told) && !s.found.fits(*told) {
			return hasChanged
		}
		return provided
	case told.rows == 0 || st.sql || st.large:
		if !st.large {
			s.ensure(st, out)
		}
		return provided
	case st.canonical == "":
		// It is parsed for every use, and described a moment before: only a change that is known of is worth a round trip.
		if s.portals.unnamedHere || s.prepared.unnamedStamp == s.srv.Definitions.count() {
			s.ensure(st, out)
			return provided
		}
	default:
		if e := s.srv.statements.use(st.canonical); e != nil {
			if e.outline.fits(*told) {
				return provided
			}
			if e.outline.covers(*told) {
				s.forget(e, out) // it, or the client, is behind
			}
		}
	}
	s.ask(st, out)
	return notYet
}

// ask has the server say what a statement is. Until it has, the client's frames wait.
func (s *Session) ask(st *statement, out *Actions) {
	s.ensure(st, out)
	b := wire.AppendDescribe(out.own(Server), 'S', st.canonical)
	out.put(Server, wire.AppendEmpty(b, 'H'))
	s.inject(wire.OwedDescribeStatement, request{stmt: st, bits: asks})
	s.found, s.preparing = outline{}, true
}

// described takes the answers to Describe.
func (s *Session) described(o *wire.Owed[request], p wire.Piece) {
	st := o.Ref.stmt
	asked := o.Ref.bits&asks != 0
	if asked {
		if p.Last {
			s.found.note(p)
		}
		if p.Type != 't' {
			s.asked, s.preparing = st, false
		}
	}
	told := s.tells(st)
	if st.large || !asked && (!p.Last || told.knows(p.Type) || !keepsShape(st) || st.canonical == "" && st != s.prepared.unnamed) {
		return
	}
	if !asked {
		told.note(p)
		s.prepared.unnamedStamp = s.srv.Definitions.count() // of no account for others
	}
	if st.canonical != "" && p.Last {
		if e := s.srv.statements.use(st.canonical); e != nil {
			e.outline.note(p)
		}
	}
}

// keepsShape reports whether PostgreSQL holds a statement to the columns that it had when it was parsed.
func keepsShape(st *statement) bool {
	return st.verdict.Command == router.CommandSelect || st.verdict.Command == router.CommandOther
}

// knows reports whether what a message of that type tells is known.
func (o *outline) knows(typ byte) bool {
	if typ == 't' {
		return o.params != 0
	}
	return o.rows != 0
}

// note takes a ParameterDescription, RowDescription or NoData.
func (o *outline) note(p wire.Piece) {
	body := p.Bytes[wire.HeaderLen:]
	switch p.Type {
	case 't':
		o.params = digestOf(firstDigest, body)
	case 'T':
		o.rows = digestColumns(body)
	case 'n':
		o.rows = noRows
	}
}

// digestColumns digests names, types and type modifiers, as PostgreSQL compares them; 0 if the body is malformed.
func digestColumns(body []byte) uint32 {
	if len(body) < 2 {
		return 0
	}
	sum, rest := uint32(firstDigest), body[2:]
	for range binary.BigEndian.Uint16(body) {
		end := bytes.IndexByte(rest, 0)
		// name, 0, table (4), column (2), type (4), length (2), modifier (4), format (2)
		if end < 0 || len(rest) < end+19 {
			return 0
		}
		sum = digestOf(sum, rest[:end+1])
		sum = digestOf(sum, rest[end+7:end+11])
		sum = digestOf(sum, rest[end+13:end+17])
		rest = rest[end+19:]
	}
	return sum
}

const firstDigest = 2166136261

// digestOf is FNV-1a, but for the digests that mean something.
func digestOf(sum uint32, b []byte) uint32 {
	for _, c := range b {
		sum = (sum ^ uint32(c)) * 16777619
	}
	return max(sum, noRows+1)
}

// refuseChanged makes the server fail, so that the client's transaction does, where PostgreSQL would have refused the
// statement.
func (s *Session) refuseChanged(out *Actions) {
	s.push1(wire.OwedParse, request{bits: changedShape}, out)
	out.put(Server, wire.AppendParse(out.own(Server), "", failing, noTypes))
}

// forget closes a statement on the server, so that it is parsed anew.
func (s *Session) forget(e *cachedStatement, out *Actions) {
	name := e.name
	s.srv.statements.remove(name)
	s.closeOnServer(name, out)
}
