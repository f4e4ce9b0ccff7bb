package session

import (
	"slices"
	"strings"

	"github.com/walgate/walgate/proxy/wire"
)

// appendRestore appends the SQL that makes have into want. Each setting is made and taken back by whoever set it, the role
// of the login first: a parameter for superusers can't be touched any more once the session is somebody else. With stays
// the session remains who it is, because SET LOCAL has made it somebody.
func appendRestore(dst []byte, have, want *settingSet, stays bool) []byte {
	r := restoration{sql: dst, who: have.actor(), stays: stays}
	actors := append(make([]actor, 0, 4), actor{})
	for _, list := range [2][]setting{have.all(), want.all()} {
		for i := range list {
			if !slices.Contains(actors, list[i].by) {
				actors = append(actors, list[i].by)
			}
		}
	}
	for _, by := range actors {
		for _, e := range have.all() {
			if _, ok := want.value(e.name); !ok && e.by == by && e.plain() {
				r.reset(e)
			}
		}
		for _, e := range want.all() {
			if e.by == by && e.plain() && changed(have, want, e.name) {
				r.set(e)
			}
		}
	}
	r.become(want.actor())
	return r.sql
}

// plain reports whether the setting does not make the session somebody else.
func (e *setting) plain() bool { return e.name != settingRole && e.name != settingAuthorization }

func changed(have, want *settingSet, name string) bool {
	a, hasA := have.value(name)
	b, hasB := want.value(name)
	return hasA != hasB || a != b
}

// restoration is SQL in the making, and who the session is behind it.
type restoration struct {
	sql  []byte
	who  actor
	list bool // it ends within the list of a SELECT
	// stays: it is not made anybody else.
	stays bool
}

// become appends what makes the session somebody else.
func (r *restoration) become(who actor) {
	if r.stays {
		return
	}
	if r.who.authorization != who.authorization && r.who.authorization != "" {
		r.statement("RESET SESSION AUTHORIZATION")
	}
	if r.who.role != "" && (r.who.role != who.role || r.who.authorization != who.authorization) {
		r.statement("RESET ROLE")
		r.who.role = ""
	}
	if r.who.authorization != who.authorization && who.authorization != "" {
		r.setConfig(settingAuthorization, who.authorization)
	}
	if r.who.role != who.role {
		r.setConfig(settingRole, who.role)
	}
	r.who = who
}

func (r *restoration) reset(e setting) {
	r.become(e.by)
	r.end()
	r.sql = append(appendIdentifier(append(r.sql, "RESET "...), e.name), ';')
}

func (r *restoration) set(e setting) {
	r.become(e.by)
	r.setConfig(e.name, e.value)
}

func (r *restoration) setConfig(name, value string) {
	if !r.list {
		r.sql, r.list = append(r.sql, "SELECT "...), true
	} else {
		r.sql = append(r.sql, ',')
	}
	r.sql = append(r.sql, "pg_catalog.set_config("...)
	r.sql = appendLiteral(r.sql, name)
	r.sql = append(r.sql, ',')
	r.sql = appendLiteral(r.sql, value)
	r.sql = append(r.sql, ",false)"...)
}

func (r *restoration) statement(text string) {
	r.end()
	r.sql = append(append(r.sql, text...), ';')
}

// end ends the list of a SELECT.
func (r *restoration) end() {
	if r.list {
		r.sql, r.list = append(r.sql, ';'), false
	}
}

// appendLiteral quotes a text so that it is read alike with and without standard_conforming_strings.
func appendLiteral(dst []byte, text string) []byte {
	if strings.IndexByte(text, '\\') >= 0 {
		dst = append(dst, " E"...)
	}
	dst = append(dst, '\'')
	for i := 0; i < len(text); i++ {
		if text[i] == '\'' || text[i] == '\\' {
			dst = append(dst, text[i])
		}
		dst = append(dst, text[i])
	}
	return append(dst, '\'')
}

// appendIdentifier quotes a parameter's name, part by part.
func appendIdentifier(dst []byte, name string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '.':
			dst = append(dst, `"."`...)
			continue
		case '"':
			dst = append(dst, '"')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '"')
}

// appendLocals appends, to SQL that may end within a SELECT, what sets parameters until the end of the transaction.
func appendLocals(dst []byte, locals *settingSet) []byte {
	for i, e := range locals.all() {
		switch {
		case i > 0:
			dst = append(dst, ',')
		case len(dst) > 0 && dst[len(dst)-1] == ')':
			dst = append(dst, ";SELECT "...)
		default:
			dst = append(dst, "SELECT "...)
		}
		dst = appendLiteral(append(dst, "pg_catalog.set_config("...), e.name)
		dst = append(appendLiteral(append(dst, ','), e.value), ",true)"...)
	}
	return dst
}

// restore injects what makes the server's settings those of the session, at the start of a turn, and reports whether it
// did: the turn waits for the answer, since a refusal or a cancel would make it run under other settings. In a transaction
// they differ behind a RESET or SET LOCAL ... TO DEFAULT, which has returned to the server's value instead of that of the
// client's startup.
func (s *Session) restore(out *Actions) bool {
	p := &s.settings.now
	inside := s.inTx && !s.unsure && s.status == wire.StatusInTransaction && s.ledger.Len() == 0
	if p.want == p.have && p.defaults == nil || s.group || !inside && (s.inTx || s.status != wire.StatusIdle && s.reopening == nil) {
		return false
	}
	want, have := p.want.onServers(), p.have.onServers()
	if want.equal(have) && p.defaults == nil {
		p.have = p.want
		return false
	}
	b, at := wire.BeginQuery(out.own(Server))
	b = appendLocals(appendRestore(b, have, want, p.localActor()), p.defaults)
	out.put(Server, wire.EndQuery(b, at))
	s.ledger.Push(wire.Owed[request]{Kind: wire.OwedQuery, Injected: true, Ref: request{bits: restores}})
	p.have, p.defaults = p.want, nil
	s.preparing = true
	return true
}
