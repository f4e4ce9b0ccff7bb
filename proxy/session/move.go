package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// BEGIN READ ONLY goes to a standby. Some of what may follow it would be allowed by PostgreSQL, and has no meaning on a
// standby: its advisory locks exclude nobody on the primary, and it has no notifications. Such a statement takes the
// transaction to the primary, if all that it did was to read; otherwise it is refused.

// onStandby is what becomes of a frame within a transaction on a standby.
type onStandby uint8

const (
	stays   onStandby = iota
	waits             // for answers, or for the primary
	refuses           // it can't be taken there
)

// belongs decides about a frame.
func (s *Session) belongs(p wire.Piece, body []byte, out *Actions) onStandby {
	if !s.needsPrimary(p, body) {
		return stays
	}
	switch {
	case s.opening == nil || s.group:
		return refuses
	case s.ledger.Len() > 0:
		return waits
	case s.status != wire.StatusInTransaction || s.pins.any():
		return refuses
	}
	s.reopening = s.opening
	s.letGo(Discard, "its transaction goes on on the primary", out)
	return waits
}

func (s *Session) needsPrimary(p wire.Piece, body []byte) bool {
	var v router.Verdict
	switch p.Type {
	case 'Q':
		if text, err := wire.ParseString(body); err == nil && p.Last {
			v = router.Classify(text, s.opts)
		}
	case 'P':
		if _, text, _, err := wire.ParseParse(body); err == nil && p.Last {
			v = router.Classify(text, s.opts)
		}
	case 'B':
		if _, name, _, err := wire.ParseBind(body); err == nil {
			if st := s.prepared.find(name); st != nil {
				v = st.verdict
			}
		}
	}
	switch v.Command {
	case router.CommandNotify, router.CommandUnlisten, router.CommandUnlistenAll:
		return true
	}
	return v.Flags.Has(router.Advisory | router.PinListen)
}

// opens keeps the text that has opened the transaction for as long as it may be opened elsewhere instead. The text is text
// or else stored.
func (s *Session) opens(v *router.Verdict, text []byte, stored string, rows uint32) {
	switch {
	case onPrimary(s.srv):
	case v.Command == router.CommandBegin && !s.inTx:
		s.opening = append(append([]byte(nil), text...), stored...)
		s.lazy = s.turn.begins && s.need.Kind == router.Read
		s.steady = v.Flags.Has(router.TxRepeatableRead | router.TxSerializable)
		if level, ok := s.settings.now.want.value("default_transaction_isolation"); ok && level != "read committed" {
			s.steady = true
		}
	case s.opening == nil, s.lazy: // of a lazy one each turn is examined
	case s.steady || rows != 0 || v.Kind != router.Read || v.Flags.Has(router.State|router.LocalState|router.TxControl) ||
		v.Command != router.CommandSelect && v.Command != router.CommandShow && v.Command != router.CommandEmpty:
		s.opening = nil
	}
}

// reopen opens the transaction on the server to which it is taken, and reports whether it did: the turn waits for it.
func (s *Session) reopen(out *Actions) bool {
	if s.reopening == nil || s.inTx || s.group || s.ledger.Len() > 0 { // else it is open, and its end may be under way
		return false
	}
	if !onPrimary(s.srv) && s.need.Kind == router.Read {
		s.lazy, s.opening = true, s.reopening
	}
	if s.swiftly() {
		s.inTx, s.swift = true, true
		s.beginGroup(out)
		return false
	}
	b, at := wire.BeginQuery(out.own(Server))
	out.put(Server, wire.EndQuery(append(b, s.reopening...), at))
	s.inject(wire.OwedQuery, request{bits: reopens})
	s.inTx, s.preparing = true, true
	return true
}

// reopened goes on with the transaction.
func (s *Session) reopened(status byte, out *Actions) {
	cause := errTransactionLost
	if s.restoreError != nil {
		cause, s.restoreError = s.restoreError, nil
	}
	s.preparing = false
	if status == s.status {
		return
	}
	s.letGo(Discard, "the transaction could not be opened again", out)
	s.loseTransaction(cause)
}

// refuseHere makes the server fail in place of a frame.
func (s *Session) refuseHere(p wire.Piece, out *Actions) {
	r := request{bits: elsewhere}
	if p.Type == 'Q' {
		s.push1(wire.OwedQuery, r, out)
		out.put(Server, wire.AppendQuery(out.own(Server), failing))
		return
	}
	s.group = true
	s.push1(wire.OwedParse, r, out)
	out.put(Server, wire.AppendParse(out.own(Server), "", failing, noTypes))
}
