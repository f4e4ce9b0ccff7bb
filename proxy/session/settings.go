package session

import (
	"strings"
)

// setting is one parameter with the text that sets it, in the form that set_config takes, and who set it: others may not
// be allowed to.
type setting struct {
	name, value string
	by          actor
}

// actor is the role with whose rights statements run, as SET SESSION AUTHORIZATION and SET ROLE made it; the zero actor
// is the role of the login.
type actor struct{ authorization, role string }

// actor returns who runs statements under these settings.
func (a *settingSet) actor() (who actor) {
	who.authorization, _ = a.value(settingAuthorization)
	if who.role, _ = a.value(settingRole); strings.EqualFold(who.role, "none") {
		who.role = ""
	}
	return who
}

// settingSet is an immutable list of settings, sorted by name; nil is empty. Sessions and servers share them: equal sets
// are the same, but for those that the interner has forgotten.
type settingSet struct {
	list []setting
	// reading tells of the settings by which statements are read when they are parsed.
	reading string
	own     ownReads
	// shared is the set without walgate's own parameters, of which servers know nothing; nil when nothing is left.
	shared *settingSet
}

// onServers is the part of the set that servers must know.
func (a *settingSet) onServers() *settingSet {
	if a == nil {
		return nil
	}
	return a.shared
}

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

// with returns the set with one more or another setting.
func (a *settingSet) with(shared *interner, added setting) *settingSet {
	if old, ok := a.value(added.name); ok && old == added.value {
		return a
	}
	list := make([]setting, 0, len(a.all())+1)
	done := false
	for _, e := range a.all() {
		if !done && e.name >= added.name {
			list, done = append(list, added), true
			if e.name == added.name {
				continue
			}
		}
		list = append(list, e)
	}
	if !done {
		list = append(list, added)
	}
	return shared.set(list)
}

// without returns the set without name.
func (a *settingSet) without(shared *interner, name string) *settingSet {
	if _, ok := a.value(name); !ok {
		return a
	}
	var list []setting
	for _, e := range a.all() {
		if e.name != name {
			list = append(list, e)
		}
	}
	return shared.set(list)
}

// equal reports whether the same is in force under both, whoever has set it.
func (a *settingSet) equal(b *settingSet) bool {
	if a == b {
		return true
	}
	if len(a.all()) != len(b.all()) {
		return false
	}
	for i, e := range a.all() {
		if e.name != b.list[i].name || e.value != b.list[i].value {
			return false
		}
	}
	return true
}

// settingPair is what the session wants, and what is in force on its server connection.
type settingPair struct {
	want, have *settingSet
	// local are those settings by which statements are read that SET LOCAL has made; they hide those of want.
	local *settingSet
	// defaults are startup parameters for which SET LOCAL ... TO DEFAULT has brought the server's value: that of the client
	// is still to be set.
	defaults *settingSet
	// unread: a setting by which statements are read may have a value that is not known here. unreadLocal: until the end of
	// the transaction.
	unread, unreadLocal bool
}

// savepoint is a mark to which settings can return.
type savepoint struct {
	name string
	at   settingPair
}

// settingState follows the settings of a session through transactions.
type settingState struct {
	now        settingPair
	base       settingPair // at the begin of the transaction
	savepoints []savepoint
	startup    *settingSet // to which RESET returns
	shared     *interner
	// changed: statements may be read otherwise at the end of the transaction than at its beginning, or behind a rollback.
	changed bool
	// mixed is what mixedOf makes.
	mixed   *settingSet
	mixedOf settingPair
}

// maxSavepoints bounds the marks kept; older ones are then forgotten.
const maxSavepoints = 1000

func (t *settingState) begin(want, startup *settingSet, shared *interner) {
	t.now.want, t.base.want, t.startup, t.shared = want, want, startup, shared
}

// attach takes over what is in force on a server.
func (t *settingState) attach(have *settingSet) {
	t.now.have, t.base.have = have, have
	t.now.unread, t.base.unread = false, false // what is not known stays with a server
}

// lost returns to the settings of the begin of the transaction that died with its server.
func (t *settingState) lost() {
	t.rolledBack()
}

// committed makes the present settings those to which a rollback returns.
func (t *settingState) committed() {
	t.now.local, t.now.defaults, t.now.unreadLocal = nil, nil, false
	t.base, t.savepoints, t.changed = t.now, nil, false
}

// rolledBack returns to the settings of the begin of the transaction.
func (t *settingState) rolledBack() { t.now, t.savepoints, t.changed = t.base, nil, false }

func (t *settingState) set(name, value string) {
	e := setting{name: name, value: value}
	if name != settingRole && name != settingAuthorization {
		e.by = t.reads().actor()
	}
	t.overrule(name)
	t.now.want, t.now.have = t.now.want.with(t.shared, e), t.now.have.with(t.shared, e)
}

func (t *settingState) reset(name string) {
	t.overrule(name)
	t.now.have = t.now.have.without(t.shared, name)
	if value, ok := t.startup.value(name); ok {
		t.now.want = t.now.want.with(t.shared, setting{name: name, value: value})
	} else {
		t.now.want = t.now.want.without(t.shared, name)
	}
}

// resetAll is RESET ALL: role and session authorization stay.
func (t *settingState) resetAll() {
	want := t.startup
	var have *settingSet
	for _, name := range [...]string{settingRole, settingAuthorization} {
		if value, ok := t.now.want.value(name); ok {
			want = want.with(t.shared, setting{name: name, value: value})
		}
		if value, ok := t.now.have.value(name); ok {
			have = have.with(t.shared, setting{name: name, value: value})
		}
	}
	var local *settingSet
	if value, ok := t.now.local.value(settingRole); ok {
		local = local.with(t.shared, setting{name: settingRole, value: value})
	}
	t.now = settingPair{want: want, have: have, local: local, unread: t.now.unread, unreadLocal: t.now.unreadLocal}
	t.changed = true
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
