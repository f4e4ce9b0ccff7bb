package session

import (
	"strings"

	"github.com/walgate/walgate/proxy/wire"
)

// appendRestore appends the SQL that makes have into want. Other parameters than role and session authorization may need
// the rights of the user that has logged in, or of the role: a superuser's are changed without a role, anybody else's
// with it.
func appendRestore(dst []byte, have, want *settingSet, superuser bool) []byte {
	others := differ(have, want)
	_, hadAuthorization := have.value(settingAuthorization)
	_, hadRole := have.value(settingRole)
	authorization := changed(have, want, settingAuthorization) || hadAuthorization && others
	role := changed(have, want, settingRole) || authorization || hadRole && others && superuser
	if hadAuthorization && authorization {
		dst = append(dst, "RESET SESSION AUTHORIZATION;"...)
	}
	if hadRole && role && superuser {
		dst = append(dst, "RESET ROLE;"...)
	}
	for _, e := range have.all() {
		if _, ok := want.value(e.name); !ok && e.name != settingRole && e.name != settingAuthorization {
			dst = append(appendIdentifier(append(dst, "RESET "...), e.name), ';')
		}
	}
	if hadRole && role && !superuser {
		dst = append(dst, "RESET ROLE;"...)
	}
	count := 0
	value, ok := want.value(settingRole)
	if role && ok && !superuser {
		dst = appendSetConfig(dst, setting{settingRole, value}, &count)
	}
	for _, e := range want.all() {
		if e.name != settingRole && e.name != settingAuthorization && changed(have, want, e.name) {
			dst = appendSetConfig(dst, e, &count)
		}
	}
	if value, ok := want.value(settingAuthorization); ok && authorization {
		dst = appendSetConfig(dst, setting{settingAuthorization, value}, &count)
	}
	if role && ok && superuser {
		dst = appendSetConfig(dst, setting{settingRole, value}, &count)
	}
	return dst
}

// differ reports whether the sets differ in more than role and session authorization.
func differ(have, want *settingSet) bool {
	for _, pair := range [...][2]*settingSet{{have, want}, {want, have}} {
		for _, e := range pair[0].all() {
			if e.name != settingRole && e.name != settingAuthorization && changed(pair[0], pair[1], e.name) {
				return true
			}
		}
	}
	return false
}

func changed(have, want *settingSet, name string) bool {
	a, hasA := have.value(name)
	b, hasB := want.value(name)
	return hasA != hasB || a != b
}

func appendSetConfig(dst []byte, e setting, count *int) []byte {
	if *count == 0 {
		dst = append(dst, "SELECT "...)
	} else {
		dst = append(dst, ',')
	}
	*count++
	dst = append(dst, "pg_catalog.set_config("...)
	dst = appendLiteral(dst, e.name)
	dst = append(dst, ',')
	dst = appendLiteral(dst, e.value)
	return append(dst, ",false)"...)
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

// restore injects what makes the server's settings those of the session, at the start of a turn, and reports whether it
// did: the turn waits for the answer, since a refusal or a cancel would make it run under other settings.
func (s *Session) restore(out *Actions) bool {
	p := &s.settings.now
	if p.want == p.have || s.inTx || s.group || s.status != wire.StatusIdle {
		return false
	}
	if p.want.equal(p.have) {
		p.have = p.want
		return false
	}
	b, at := wire.BeginQuery(out.own(Server))
	b = appendRestore(b, p.have, p.want, s.srv.superuser)
	out.put(Server, wire.EndQuery(b, at))
	s.ledger.Push(wire.Owed[request]{Kind: wire.OwedQuery, Injected: true, Ref: request{bits: restores}})
	p.have = p.want
	s.preparing = true
	return true
}
