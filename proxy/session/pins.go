package session

import "github.com/walgate/walgate/router"

// pins are the reasons for which a session keeps its server connection.
type pins struct {
	flags       router.Flags // those of router.Pins that hold
	prepare     bool         // statements prepared in SQL
	setting     bool         // a parameter whose value can't be carried
	large       bool         // a prepared statement too large to be carried
	holdCursors int
}

// inTransaction are the pins that end with the transaction.
const inTransaction = router.PinSnapshot | router.PinLargeObject

// forever are the pins that nothing but the end of the session removes.
const forever = router.PinLoad | router.PinSeed

func (p *pins) any() bool { return p.flags != 0 || p.prepare || p.setting || p.large }

func (p *pins) discardAll() { *p = pins{flags: p.flags & forever} }

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
		s.settings.discardAll()
		s.pins.discardAll()
		s.prepared.clear()
		s.srv.statements.clear()
	case router.CommandDiscardTemp:
		s.pins.flags &^= router.PinTempTable
	case router.CommandUnlistenAll:
		s.pins.flags &^= router.PinListen
	case router.CommandCloseAll:
		s.pins.flags &^= router.PinHoldCursor
		s.pins.holdCursors = 0
	case router.CommandClose:
		if s.pins.holdCursors > 0 {
			s.pins.holdCursors--
			if s.pins.holdCursors == 0 {
				s.pins.flags &^= router.PinHoldCursor
			}
		}
	case router.CommandDeclare:
		if flags.Has(router.PinHoldCursor) {
			s.pins.holdCursors++
		}
	case router.CommandDeallocateAll:
		s.pins.prepare = false
		s.prepared.named = nil
		s.srv.statements.clear()
	}
	if flags.Has(router.AdvisoryUnlockAll) {
		s.pins.flags &^= router.PinAdvisoryLock
	}
}

// pin notes before a statement is sent what it may leave on the server.
func (s *Session) pin(cmd router.Command, flags router.Flags) {
	s.pins.flags |= flags & router.Pins
	if cmd == router.CommandPrepare {
		s.pins.prepare = true
	}
}
