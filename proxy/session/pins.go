package session

import (
	"github.com/walgate/walgate/router"
)

// pins are the reasons for which a session keeps its server connection.
type pins struct {
	flags   router.Flags // those of router.Pins that hold
	prepare bool         // statements prepared in SQL
	setting bool         // a parameter whose value can't be carried
	large   bool         // a prepared statement too large to be carried
	own     bool         // the prepared statements are on the server under their own names; implies prepare
	// ended: they end with the turn if it commits. renewed: something that was sent since the session was last quiet may
	// set them, so that they don't end.
	ended, renewed router.Flags
}

// inTransaction are the pins that end with the transaction.
const inTransaction = router.PinSnapshot | router.PinLargeObject

// forever are the pins that nothing but the end of the session removes.
const forever = router.PinLoad | router.PinSeed

func (p *pins) any() bool { return p.flags != 0 || p.prepare || p.setting || p.large }

func (p *pins) discardAll() { *p = pins{flags: p.flags & (forever | p.renewed)} }

var pinNames = [...]struct {
	flag router.Flags
	name string
}{
	{router.PinTempTable, "temporary table"},
	{router.PinAdvisoryLock, "advisory lock"},
	{router.PinListen, "LISTEN"},
	{router.PinHoldCursor, "WITH HOLD cursor"},
	{router.PinLoad, "LOAD"},
	{router.PinSeed, "setseed"},
	{router.PinSnapshot, "exported snapshot"},
	{router.PinLargeObject, "large object"},
	{router.PinState, "unknown parameter"},
}

// String names the first reason; empty when there is none.
func (p *pins) String() string {
	for i := range pinNames {
		if p.flags.Has(pinNames[i].flag) {
			return pinNames[i].name
		}
	}
	switch {
	case p.prepare:
		return "PREPARE"
	case p.setting:
		return "parameter that can't be carried"
	case p.large:
		return "large prepared statement"
	default:
		return ""
	}
}

// applyState does what a successful statement means for pins and prepared statements.
func (s *Session) applyState(cmd router.Command, flags router.Flags) {
	switch cmd {
	case router.CommandDiscardAll:
		s.sequenceOn, s.srv.sequenced = 0, false
		s.settings.discardAll()
		s.pins.discardAll()
		s.prepared.clear()
		s.srv.statements.clear()
	case router.CommandDiscardSequences:
		s.sequenceOn, s.srv.sequenced = 0, false
	case router.CommandDiscardTemp:
		s.unpin(router.PinTempTable)
	case router.CommandUnlistenAll:
		s.unpin(router.PinListen)
	case router.CommandCloseAll:
		s.unpin(router.PinHoldCursor)
	case router.CommandDeallocateAll:
		s.pins.prepare, s.pins.own = false, false
		s.srv.statements.clear()
	}
	if flags.Has(router.AdvisoryUnlockAll) {
		s.unpin(router.PinAdvisoryLock)
	}
}

// unpin ends a pin at the end of the turn, if the statement in hand ran outside a transaction block: inside one, what it
// did may be rolled back.
func (s *Session) unpin(flag router.Flags) {
	if s.alone {
		s.pins.ended |= flag
	}
}

// settlePins is called at the end of a turn that left no transaction open.
func (s *Session) settlePins() {
	p := &s.pins
	p.flags &^= inTransaction
	if !s.failed {
		p.flags &^= p.ended &^ p.renewed
	}
	p.ended = 0
	if s.ledger.Len() == 0 && !s.group {
		p.renewed = 0
	}
}

// pin notes before a statement is sent what it may leave on the server.
func (s *Session) pin(cmd router.Command, flags router.Flags) {
	s.pins.flags |= flags & router.Pins
	s.pins.renewed |= flags & router.Pins
	s.srv.sequenced = s.srv.sequenced || flags.Has(router.Sequence)
}
