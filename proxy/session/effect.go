package session

import (
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
}

// tracked reports whether a statement's effect needs texts.
func tracked(v *router.Verdict) bool {
	switch v.Command {
	case router.CommandSet, router.CommandSetRole, router.CommandSetSessionAuth, router.CommandReset,
		router.CommandSetSessionTx, router.CommandSavepoint, router.CommandRollbackTo, router.CommandRelease,
		router.CommandDeallocate, router.CommandPrepare:
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
	case router.CommandSet, router.CommandSetRole, router.CommandSetSessionAuth, router.CommandSetSessionTx:
		s.applySet(cmd, flags, e)
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
	if flags.Has(router.LocalState) {
		if cmd == router.CommandSetRole {
			t.localRole = e.value
		}
		return
	}
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
	case !e.plain || flags.Has(router.PinState) || len(t.now.want.all()) >= s.cfg.MaxSettings || len(e.value) > maxSettingValue:
		s.pins.setting = true
	case name == settingDateStyle:
		t.set(name, s.wholeDateStyle(e.value))
	case name == ownToken: // among other statements
		s.runOwn(&own{cmd: router.CommandSet, name: name, value: e.value})
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
