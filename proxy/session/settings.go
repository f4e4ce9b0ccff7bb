package session

import (
	"strings"

	"github.com/walgate/walgate/router"
)

// setting is one parameter with the text that sets it, in the form that set_config takes.
type setting struct{ name, value string }

// settingSet is an immutable list of settings, sorted by name; nil is empty. Sessions and servers share them.
type settingSet struct{ list []setting }

func (a *settingSet) all() []setting {
	if a == nil {
		return nil
	}
	return a.list
}

func (a *settingSet) value(name string) (string, bool) {
	for _, e := range a.all() {
		if e.name == name {
			return e.value, true
		}
	}
	return "", false
}

// with returns the set with name set to value.
func (a *settingSet) with(name, value string) *settingSet {
	if old, ok := a.value(name); ok && old == value {
		return a
	}
	list := make([]setting, 0, len(a.all())+1)
	done := false
	for _, e := range a.all() {
		if !done && e.name >= name {
			list, done = append(list, setting{name, value}), true
			if e.name == name {
				continue
			}
		}
		list = append(list, e)
	}
	if !done {
		list = append(list, setting{name, value})
	}
	return &settingSet{list}
}

// without returns the set without name.
func (a *settingSet) without(name string) *settingSet {
	if _, ok := a.value(name); !ok {
		return a
	}
	var list []setting
	for _, e := range a.all() {
		if e.name != name {
			list = append(list, e)
		}
	}
	if list == nil {
		return nil
	}
	return &settingSet{list}
}

func (a *settingSet) equal(b *settingSet) bool {
	if a == b {
		return true
	}
	if len(a.all()) != len(b.all()) {
		return false
	}
	for i, e := range a.all() {
		if e != b.list[i] {
			return false
		}
	}
	return true
}

// settingPair is what the session wants, and what is in force on its server connection.
type settingPair struct{ want, have *settingSet }

// savepoint is a mark to which settings can return.
type savepoint struct {
	name string
	at   settingPair
}

// settingState follows the settings of a session through transactions.
type settingState struct {
	now        settingPair
	base       settingPair // at the begin of the transaction
	startup    *settingSet // to which RESET returns
	savepoints []savepoint
	unproven   *settingSet // startup settings that no server has accepted yet
}

// maxSavepoints bounds the marks kept; older ones are then forgotten.
const maxSavepoints = 1000

func (t *settingState) begin(startup *settingSet) {
	t.startup, t.unproven = startup, startup
	t.now.want, t.base.want = startup, startup
}

// attach takes over what is in force on a server.
func (t *settingState) attach(have *settingSet) { t.now.have, t.base.have = have, have }

// lost returns to the settings of the begin of the transaction that died with its server.
func (t *settingState) lost() {
	t.rolledBack()
}

// committed makes the present settings those to which a rollback returns.
func (t *settingState) committed() { t.base, t.savepoints = t.now, nil }

// rolledBack returns to the settings of the begin of the transaction.
func (t *settingState) rolledBack() { t.now, t.savepoints = t.base, nil }

func (t *settingState) set(name, value string) {
	t.now.want, t.now.have = t.now.want.with(name, value), t.now.have.with(name, value)
}

func (t *settingState) reset(name string) {
	t.now.have = t.now.have.without(name)
	if value, ok := t.startup.value(name); ok {
		t.now.want = t.now.want.with(name, value)
	} else {
		t.now.want = t.now.want.without(name)
	}
}

// resetAll is RESET ALL: role and session authorization stay.
func (t *settingState) resetAll() {
	want := t.startup
	var have *settingSet
	for _, name := range [...]string{settingRole, settingAuthorization} {
		if value, ok := t.now.want.value(name); ok {
			want = want.with(name, value)
		}
		if value, ok := t.now.have.value(name); ok {
			have = have.with(name, value)
		}
	}
	t.now.want, t.now.have = want, have
}

func (t *settingState) discardAll() { t.now = settingPair{want: t.startup} }

const (
	settingRole          = "role"
	settingAuthorization = "session_authorization"
)

// rollbackTo returns to a savepoint.
func (t *settingState) rollbackTo(name string) {
	for i := len(t.savepoints) - 1; i >= 0; i-- {
		if t.savepoints[i].name == name {
			t.now, t.savepoints = t.savepoints[i].at, t.savepoints[:i+1]
			return
		}
	}
}

func (t *settingState) release(name string) {
	for i := len(t.savepoints) - 1; i >= 0; i-- {
		if t.savepoints[i].name == name {
			t.savepoints = t.savepoints[:i]
			return
		}
	}
}

// effect is what a statement does to the session when it succeeds, with the texts that must outlive its message.
type effect struct {
	cmd   router.Command
	flags router.Flags
	name  string
	value string
	plain bool   // value can be given to set_config
	text  []byte // CommandMany: the query string
	tag   string // the command tag that the client is told instead of the server's
	// canonical is the name of an injected Close.
	canonical string
}

// tracked reports whether a statement's effect needs texts.
func tracked(v *router.Verdict) bool {
	switch v.Command {
	case router.CommandSet, router.CommandSetRole, router.CommandSetSessionAuth, router.CommandReset,
		router.CommandSetSessionTx, router.CommandSavepoint, router.CommandRollbackTo, router.CommandRelease:
		return true
	case router.CommandMany:
		return v.Flags.Has(router.State | router.TxControl)
	default:
		return false
	}
}

// makeEffect copies what a tracked statement needs.
func makeEffect(v *router.Verdict, sql []byte, opts router.Options) *effect {
	e := &effect{cmd: v.Command, flags: v.Flags}
	if v.Command == router.CommandMany {
		e.text = append([]byte(nil), sql...)
		return e
	}
	e.name = string(v.AppendName(nil, sql))
	switch v.Command {
	case router.CommandSet, router.CommandReset:
		e.name = strings.ToLower(e.name)
	}
	switch v.Command {
	case router.CommandSet, router.CommandSetRole, router.CommandSetSessionAuth:
		value, ok := v.AppendValue(nil, sql, opts)
		e.value, e.plain = string(value), ok
	case router.CommandSetSessionTx:
		e.value = strings.ToLower(string(sql))
	}
	return e
}

// apply does to the session what a statement has done, as its command tag shows.
func (s *Session) apply(cmd router.Command, flags router.Flags, e *effect, tag string) {
	t := &s.settings
	switch cmd {
	case router.CommandMany:
		s.applyNext(e, tag)
		return
	case router.CommandCommit, router.CommandPrepareTx:
		if tag == "ROLLBACK" {
			t.rolledBack()
		} else {
			t.committed()
		}
	case router.CommandRollback:
		t.rolledBack()
	case router.CommandSavepoint:
		if len(t.savepoints) < maxSavepoints {
			t.savepoints = append(t.savepoints, savepoint{e.name, t.now})
		}
	case router.CommandRollbackTo:
		t.rollbackTo(e.name)
	case router.CommandRelease:
		t.release(e.name)
	case router.CommandSet, router.CommandSetRole, router.CommandSetSessionAuth, router.CommandSetSessionTx:
		s.applySet(cmd, flags, e)
	case router.CommandReset:
		t.reset(e.name)
	case router.CommandResetAll:
		t.resetAll()
	case router.CommandResetRole:
		t.reset(settingRole)
	case router.CommandResetSessionAuth:
		t.reset(settingAuthorization)
		t.reset(settingRole)
	}
	s.applyState(cmd, flags)
}

// applyNext applies the next statement of a query string.
func (s *Session) applyNext(e *effect, tag string) {
	if e == nil || len(e.text) == 0 {
		return
	}
	span, next, ok := router.Split(e.text, 0, s.opts)
	if !ok {
		e.text = nil
		return
	}
	one := span.In(e.text)
	v := router.Classify(one, s.opts)
	e.text = e.text[next:]
	if v.Command == router.CommandMany {
		return
	}
	var sub *effect
	if tracked(&v) {
		sub = makeEffect(&v, one, s.opts)
	}
	s.apply(v.Command, v.Flags, sub, tag)
}

func (s *Session) applySet(cmd router.Command, flags router.Flags, e *effect) {
	t := &s.settings
	name := e.name
	switch cmd {
	case router.CommandSetRole:
		name = settingRole
	case router.CommandSetSessionAuth:
		name = settingAuthorization
		t.reset(settingRole)
	case router.CommandSetSessionTx:
		s.applySessionTx(flags, e.value)
		return
	}
	switch {
	case flags.Has(router.ValueDefault):
		t.reset(name)
	case !e.plain || len(t.now.want.all()) >= s.cfg.MaxSettings || len(e.value) > maxSettingValue:
		s.pins.setting = true
	default:
		t.set(name, e.value)
	}
}

// maxSettingValue bounds the values that are carried.
const maxSettingValue = 8 << 10

// applySessionTx is SET SESSION CHARACTERISTICS AS TRANSACTION, its text in lower case.
func (s *Session) applySessionTx(flags router.Flags, text string) {
	t := &s.settings
	switch {
	case flags.Has(router.TxReadOnly):
		t.set("default_transaction_read_only", "on")
	case flags.Has(router.TxReadWrite):
		t.set("default_transaction_read_only", "off")
	}
	switch fields := strings.Join(strings.Fields(text), " "); {
	case flags.Has(router.TxSerializable):
		t.set("default_transaction_isolation", "serializable")
	case flags.Has(router.TxRepeatableRead):
		t.set("default_transaction_isolation", "repeatable read")
	case strings.Contains(fields, "read committed"):
		t.set("default_transaction_isolation", "read committed")
	case strings.Contains(fields, "read uncommitted"):
		t.set("default_transaction_isolation", "read uncommitted")
	}
	if flags.Has(router.TxDeferrable) {
		t.set("default_transaction_deferrable", "on")
	} else if strings.Contains(text, "not deferrable") {
		t.set("default_transaction_deferrable", "off")
	}
}

// appendRestore appends the SQL that makes have into want.
func appendRestore(dst []byte, have, want *settingSet) []byte {
	for _, name := range [...]string{settingAuthorization, settingRole} {
		if _, had := have.value(name); had && changed(have, want, name) {
			if name == settingAuthorization {
				dst = append(dst, "RESET SESSION AUTHORIZATION;"...)
			} else {
				dst = append(dst, "RESET ROLE;"...)
			}
		}
	}
	for _, e := range have.all() {
		if _, ok := want.value(e.name); !ok && e.name != settingRole && e.name != settingAuthorization {
			dst = append(appendIdentifier(append(dst, "RESET "...), e.name), ';')
		}
	}
	count := 0
	for _, e := range want.all() {
		if e.name == settingRole || e.name == settingAuthorization || !changed(have, want, e.name) {
			continue
		}
		dst = appendSetConfig(dst, e, &count)
	}
	for _, name := range [...]string{settingAuthorization, settingRole} {
		value, ok := want.value(name)
		if !ok {
			continue
		}
		if changed(have, want, name) || name == settingRole && changed(have, want, settingAuthorization) {
			dst = appendSetConfig(dst, setting{name, value}, &count)
		}
	}
	return dst
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
