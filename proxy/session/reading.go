package session

import (
	"slices"
	"strconv"
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// PostgreSQL reads a statement once and for all when it is parsed: under other settings, the same text may be another
// statement. So the settings by which it was read are part of what a prepared statement is, and where a server has to
// parse it again, that is done under those.

// readingSettings are the settings by which statements are read. (What search_path decides is looked up again when it has
// changed, but the types of parameters and columns may not change.) Under a search_path with $user the role is another.
var readingSettings = []string{"array_nulls", "backslash_quote", "client_encoding", "datestyle", "intervalstyle", "lc_monetary",
	"search_path", "standard_conforming_strings", "timezone", "timezone_abbreviations", "transform_null_equals", "xmloption"}

// isReading reports whether statements are read by a parameter.
func isReading(name string) bool {
	return name == settingRole || name == settingAuthorization || slices.Contains(readingSettings, name)
}

func (a *settingSet) noteReading() {
	add := func(name string) {
		if value, ok := a.value(name); ok {
			a.reading += name + "=" + value + "\x00"
		}
	}
	for _, name := range readingSettings {
		add(name)
	}
	if path, ok := a.value("search_path"); !ok || strings.Contains(path, "$user") {
		add(settingAuthorization)
		add(settingRole)
	}
}

// readingText tells sets apart under which PostgreSQL may read statements differently.
func (a *settingSet) readingText() string {
	if a == nil {
		return ""
	}
	return a.reading
}

// reads returns the settings by which statements are read now: those of the session, and over them the local ones.
func (t *settingState) reads() *settingSet {
	now := &t.now
	if now.local == nil {
		return now.want
	}
	if t.mixedOf.want != now.want || t.mixedOf.local != now.local {
		t.mixed, t.mixedOf = now.want, *now
		for _, e := range now.local.list {
			if e.value == serverDefault {
				t.mixed = t.mixed.without(t.shared, e.name)
			} else {
				t.mixed = t.mixed.with(t.shared, e)
			}
		}
	}
	return t.mixed
}

// serverDefault is the value of a local setting that has returned to that of the server.
const serverDefault = "\x00"

// unknown begins what stands for settings that are not known.
const unknown = "?"

func isUnread(reading string) bool { return strings.HasPrefix(reading, unknown) }

// readingText is that of the settings by which statements are read now. If they are not known, it is another one each
// time: such a statement is like no other.
func (s *Session) readingText() string {
	t := &s.settings
	if t.now.unread || t.now.unreadLocal {
		return unknown + strconv.FormatUint(s.cfg.shared.unread.Add(1), 10)
	}
	return t.reads().readingText()
}

// setLocal follows SET LOCAL.
func (t *settingState) setLocal(name, value string) {
	t.now.defaults = t.now.defaults.without(t.shared, name)
	if isReading(name) {
		t.changed = true
		t.now.local = t.now.local.with(t.shared, setting{name: name, value: value})
	}
}

// defaultLocal follows SET LOCAL ... TO DEFAULT.
func (t *settingState) defaultLocal(name string) {
	if value, ok := t.startup.onServers().value(name); ok {
		t.setLocal(name, value)
		t.now.defaults = t.now.defaults.with(t.shared, setting{name: name, value: value})
	} else {
		t.setLocal(name, serverDefault)
	}
}

// unreadable notes that a parameter has a value that is not known.
func (t *settingState) unreadable(name string, local bool) {
	if !isReading(name) {
		return
	}
	t.changed = true
	if local {
		t.now.unreadLocal = true
	} else {
		t.now.unread = true
	}
}

// localActor reports whether SET LOCAL has made the session somebody.
func (p *settingPair) localActor() bool {
	for _, name := range [...]string{settingRole, settingAuthorization} {
		if _, ok := p.local.value(name); ok {
			return true
		}
	}
	return false
}

// overrule follows a SET or RESET behind SET LOCAL.
func (t *settingState) overrule(name string) {
	t.now.local = t.now.local.without(t.shared, name)
	t.now.defaults = t.now.defaults.without(t.shared, name)
	t.changed = t.changed || isReading(name)
}

// mayReread reports whether a statement may change the settings by which those behind it are read.
func (s *Session) mayReread(v *router.Verdict, e *effect) bool {
	switch v.Command {
	case router.CommandSet, router.CommandSetLocal, router.CommandReset:
		if e == nil {
			return true
		}
		_, atStartup := s.settings.startup.value(e.name)
		return isReading(e.name) || s.inTx && atStartup // behind which the client's own value has to be set
	case router.CommandSetRole, router.CommandResetRole, router.CommandSetSessionAuth, router.CommandResetSessionAuth,
		router.CommandResetAll, router.CommandDiscardAll:
		return true
	case router.CommandMany:
		return v.Flags.Has(router.State | router.LocalState | router.TxControl)
	case router.CommandCommit, router.CommandRollback, router.CommandRollbackTo, router.CommandPrepareTx:
		return s.settings.changed || s.naming.rereads
	default:
		return v.Flags.Has(router.LocalState | router.PinState)
	}
}

// awaitsReading reports whether something is outstanding that may change how statements are read, and has it answered.
func (s *Session) awaitsReading(out *Actions) bool {
	if !s.naming.rereads {
		return false
	}
	for i := range s.ledger.Len() {
		if s.ledger.At(i).Ref.bits&rereads == 0 {
			continue
		}
		if !s.naming.flushed {
			s.naming.flushed = true
			out.put(Server, wire.AppendEmpty(out.own(Server), 'H'))
		}
		return true
	}
	s.naming.rereads, s.naming.flushed = false, false
	return false
}

// warns reports whether a server warns of what it parses (escape_string_warning).
func (s *Session) warns(st *statement) bool {
	return s.opts.BackslashStrings && strings.IndexByte(st.asked, '\\') >= 0
}

// parsing is how a server that parses a statement now reads it.
type parsing uint8

const (
	parsedAlike   parsing = iota // as when the client parsed it
	parsedBehind                 // so too, behind a change of settings
	parsedUnknown                // perhaps otherwise: the settings are not known
)

func (s *Session) parsing(st *statement) parsing {
	t := &s.settings
	switch {
	case isUnread(st.reading):
		return parsedAlike // as well as can be
	case t.now.unread || t.now.unreadLocal:
		if isRead(st) {
			return parsedUnknown
		}
	case st.reading != t.reads().readingText() && isRead(st):
		return parsedBehind
	}
	return parsedAlike
}

// isRead reports whether it matters under which settings a statement is parsed.
func isRead(st *statement) bool {
	if strings.IndexByte(st.asked, '\'') >= 0 || st.sql {
		return true
	}
	switch st.verdict.Command {
	case router.CommandSelect, router.CommandDeclare, router.CommandCall:
		return true
	case router.CommandOther:
	default:
		return false
	}
	words := strings.Fields(st.asked)
	if len(words) == 0 {
		return false
	}
	switch strings.ToLower(words[0]) {
	case "vacuum", "reindex", "cluster", "create", "drop", "alter":
		return false // names are looked up when it runs; and some may not run behind anything else
	}
	return true
}

// readAs injects what makes a server read as a statement was read, until back or the end of the transaction; back is
// what returns to the present settings.
func (s *Session) readAs(st *statement, out *Actions) (back string) {
	there, back := s.rereading(st)
	s.injectSelect(there, 0, out)
	return back
}

// rereading returns the statements that change the settings to those by which a statement was read, and back.
func (s *Session) rereading(st *statement) (there, back string) {
	var was settingSet
	for e := range strings.SplitSeq(strings.TrimSuffix(st.reading, "\x00"), "\x00") {
		name, value, _ := strings.Cut(e, "=")
		was.list = append(was.list, setting{name: name, value: value})
	}
	now := s.settings.reads()
	names := readingSettings
	if path, ok := was.value("search_path"); !ok || strings.Contains(path, "$user") {
		names = append(slices.Clip(names), settingAuthorization, settingRole)
	}
	change := func(from, to *settingSet) string {
		sql := []byte("SELECT ")
		for _, name := range names {
			value, ok := to.value(name)
			if before, had := from.value(name); had == ok && before == value {
				continue
			}
			if !ok && name == settingRole {
				value, ok = "none", true
			}
			if len(sql) > len("SELECT ") {
				sql = append(sql, ',')
			}
			sql = append(appendLiteral(append(sql, "pg_catalog.set_config("...), name), ',')
			if ok {
				sql = appendLiteral(sql, value)
			} else {
				sql = append(sql, "NULL"...) // the server's default
			}
			sql = append(sql, ",true)"...)
		}
		return string(sql)
	}
	return change(now, &was), change(&was, now)
}

// injectSelect injects a statement of our own in the extended protocol, whose rows nobody wants.
func (s *Session) injectSelect(sql string, facts bits, out *Actions) {
	const name = "wg_reading"
	b := wire.AppendParse(out.own(Server), name, sql, noTypes)
	b = append(wire.AppendBindHeader(b, name, name, 6), 0, 0, 0, 0, 0, 0)
	b = wire.AppendExecute(b, name, 0)
	b = wire.AppendClose(b, 'P', name)
	out.put(Server, wire.AppendClose(b, 'S', name))
	for _, kind := range [...]wire.Kind{wire.OwedParse, wire.OwedBind, wire.OwedExecute, wire.OwedClose, wire.OwedClose} {
		s.inject(kind, request{bits: facts})
	}
}
