package session

import (
	"slices"
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// effect is what a statement does to the session when it succeeds, with the texts that must outlive its message.
type effect struct {
	cmd   router.Command
	flags router.Flags
	name  string
	value string
	plain bool   // value can be given to set_config
	text  []byte // CommandMany: the query string
	own   *own   // what it does to walgate's own parameters
	// refusal is what the client is told instead of the server's error.
	refusal *wire.ErrorFields
	tag     string // the command tag that the client is told instead of the server's
	// prepares is what PREPARE installs; verdict that of what it prepares among other statements.
	prepares *statement
	verdict  router.Verdict
	// locals is what a SELECT sets until the end of the transaction; unread if there may be more.
	locals []router.LocalSetting
	unread bool
}

// tracked reports whether a statement's effect needs texts.
func tracked(v *router.Verdict) bool {
	switch v.Command {
	case router.CommandSet, router.CommandSetLocal, router.CommandSetRole, router.CommandSetSessionAuth, router.CommandReset,
		router.CommandSetSessionTx, router.CommandSavepoint, router.CommandRollbackTo, router.CommandRelease,
		router.CommandDeallocate, router.CommandPrepare:
		return true
	case router.CommandMany:
		return v.Flags.Has(router.State | router.LocalState | router.TxControl)
	case router.CommandSelect:
		return v.Flags.Has(router.LocalState)
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
	case router.CommandSet, router.CommandSetLocal, router.CommandReset:
		e.name = strings.ToLower(e.name)
	case router.CommandSelect:
		list, ok := router.LocalSettings(sql, opts)
		e.locals, e.unread = list, !ok
	}
	switch v.Command {
	case router.CommandSet, router.CommandSetLocal, router.CommandSetRole, router.CommandSetSessionAuth:
		value, ok := v.AppendValue(nil, sql, opts)
		e.value, e.plain = string(value), ok
	case router.CommandSetSessionTx:
		e.value = strings.ToLower(string(sql))
	case router.CommandPrepare:
		e.verdict = router.Classify(v.Value.In(sql), opts)
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
	case router.CommandSet, router.CommandSetLocal, router.CommandSetRole, router.CommandSetSessionAuth, router.CommandSetSessionTx:
		s.applySet(cmd, flags, e)
	case router.CommandSelect:
		s.applySelect(flags, e)
	case router.CommandReset:
		t.reset(e.name)
	case router.CommandResetAll:
		t.resetAll()
	case router.CommandResetRole:
		t.reset(settingRole)
	case router.CommandPrepare, router.CommandDeallocate, router.CommandDeallocateAll:
		s.applyPrepared(cmd, e)
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
		if !flags.Has(router.LocalState) {
			t.reset(settingRole)
		}
	case router.CommandSetSessionTx:
		s.applySessionTx(flags, e.value)
		return
	}
	if flags.Has(router.LocalState) {
		s.applyLocal(name, flags, e)
		return
	}
	switch {
	case flags.Has(router.ValueDefault):
		t.reset(name)
	case !e.plain || flags.Has(router.PinState) || len(t.now.want.all()) >= s.cfg.MaxSettings || len(e.value) > maxSettingValue:
		s.pins.setting = true
		t.unreadable(name, false)
	case name == settingDateStyle:
		t.set(name, s.wholeDateStyle(e.value))
	case name == ownToken: // among other statements
		s.runOwn(&own{cmd: router.CommandSet, name: name, value: e.value})
	default:
		t.set(name, e.value)
	}
}

// applyLocal is SET LOCAL.
func (s *Session) applyLocal(name string, flags router.Flags, e *effect) {
	t := &s.settings
	switch {
	case flags.Has(router.ValueDefault):
		t.defaultLocal(name)
	case !e.plain:
		t.unreadable(name, true)
	case name == settingDateStyle:
		t.setLocal(name, s.wholeDateStyle(e.value))
	default:
		t.setLocal(name, e.value)
	}
	if name == settingAuthorization {
		t.setLocal(settingRole, "none")
	}
}

// applySelect is a SELECT that sets parameters.
func (s *Session) applySelect(flags router.Flags, e *effect) {
	t := &s.settings
	if flags.Has(router.PinState) {
		t.now.unread, t.changed = true, true
	}
	if e == nil || !flags.Has(router.LocalState) {
		return
	}
	for _, l := range e.locals {
		switch {
		case l.Param != 0:
			t.unreadable(l.Name, true)
		case l.Name == settingDateStyle:
			t.setLocal(l.Name, s.wholeDateStyle(l.Value))
		default:
			t.setLocal(l.Name, l.Value)
		}
	}
	if e.unread {
		t.now.unreadLocal, t.changed = true, true
	}
}

// bindLocals returns what a SELECT will set with the values in what follows the names in its Bind message; nil if its
// own effect tells.
func bindLocals(e *effect, rest []byte, whole bool) *effect {
	if e == nil || !whole || !slices.ContainsFunc(e.locals, func(l router.LocalSetting) bool { return l.Param != 0 }) {
		return nil
	}
	p, err := wire.ParseParameters(rest)
	if err != nil {
		return nil
	}
	bound := *e
	bound.locals = slices.Clone(e.locals)
	for i := range bound.locals {
		if l := &bound.locals[i]; l.Param > 0 && l.Param <= len(p.Values) && p.Values[l.Param-1] != nil && len(p.Values[l.Param-1]) <= maxSettingValue {
			l.Value, l.Param = string(p.Values[l.Param-1]), 0 // a text is the same in both formats
		}
	}
	return &bound
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
