package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// naming tells whether the names of the client's prepared statements are known for sure. What is written is taken to
// succeed: within a turn that does no harm, since the server skips what follows an error, up to Sync. Behind the end of
// the turn it would: a name could stand for a statement that was never prepared, or be taken for free. The same holds for the settings by which statements are read; and within a turn
// too, since what is parsed is read by them.
type naming struct {
	changes   bool // what was written since the last Sync or Query changes names
	unsettled bool // what stands before that does, and its answer is outstanding
	// rereads: something outstanding may change the settings by which statements are read; flushed: the server has been
	// told to answer it.
	rereads, flushed bool
}

// turned notes the end of a turn that was written.
func (n *naming) turned() { n.unsettled, n.changes = n.unsettled || n.changes, false }

// ensured notes that the server is made to have a statement, for the turn that is being written: the next must know whether
// it has.
func (n *naming) ensured(inGroup bool) {
	n.changes, n.unsettled = n.changes || inGroup, n.unsettled || !inGroup
}

// settleNames ends the wait when no turn is owed its answer.
func (s *Session) settleNames() {
	if s.naming.unsettled && !s.turnOwed() {
		s.naming.unsettled = false
	}
}

// turnOwed reports whether the answer to a whole turn is outstanding.
func (s *Session) turnOwed() bool {
	for i := range s.ledger.Len() {
		if s.ledger.At(i).Kind.EndsTurn() {
			return true
		}
	}
	return false
}

// awaitsNames reports whether a client's message must wait until it is known what names stand for. What is outstanding
// is answered without it – unless it is a copy, which any of them ends.
func (s *Session) awaitsNames(typ byte, out *Actions) bool {
	switch typ {
	case 'P', 'B', 'D', 'C', 'Q', 'E', 'F':
		s.settleNames() // a Sync that a copy has swallowed is answered by nothing
		if s.ledger.CopyIn() {
			return false
		}
		return s.naming.unsettled || typ != 'E' && typ != 'C' && s.awaitsReading(out)
	default:
		return false
	}
}

// renames reports whether a query may change what names stand for.
func renames(v *router.Verdict) bool {
	switch v.Command {
	case router.CommandPrepare, router.CommandDeallocate, router.CommandDeallocateAll, router.CommandDiscardAll:
		return true
	case router.CommandMany:
		return v.Flags.Has(router.State)
	default:
		return false
	}
}

// mayHaveFailed reports whether what is written now may meet a failed transaction, in which nothing but its end can be
// prepared.
func (s *Session) mayHaveFailed() bool {
	return s.status == wire.StatusFailed || (s.inTx || s.unsure) && s.turnOwed()
}
