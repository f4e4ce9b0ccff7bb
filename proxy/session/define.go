package session

import "github.com/walgate/walgate/router"

// stamp changes whenever a statement that is parsed now may mean something else than one that was parsed before.
func (f *ServerFacts) stamp() uint64 { return f.defined + f.Definitions.count() }

// redefinition is what the open transaction has defined.
type redefinition uint8

const (
	redefinedNothing redefinition = iota
	redefinedHere                 // temporary things, which only this server knows
	redefined
)

// define notes what a statement that is being written may define, or undo.
func (s *Session) define(cmd router.Command, flags router.Flags) {
	switch {
	case flags.Has(router.Defines):
		s.srv.defined++
		s.redefines = max(s.redefines, redefinedHere)
		if cmd == router.CommandMany || !flags.Has(router.PinTempTable) {
			s.redefines = redefined
		}
	case cmd == router.CommandDiscardAll, cmd == router.CommandDiscardTemp,
		flags.Has(router.TxControl) && s.redefines != redefinedNothing: // it may be a rollback
		s.srv.defined++
	}
}

// settleDefinitions is called when a transaction has ended, whichever way; last tells that nothing else is under way.
func (s *Session) settleDefinitions(last bool) {
	if s.redefines == redefinedNothing {
		return
	}
	s.srv.defined++
	if s.redefines == redefined {
		s.srv.Definitions.changed()
	}
	if last {
		s.redefines = redefinedNothing
	}
}
