package session

import (
	"bytes"

	"github.com/walgate/walgate/proxy/wire"
)

// A client may send Sync and further requests right behind the Execute of COPY FROM STDIN. PostgreSQL drops a Sync that it
// reads while it copies, and fails at the next request; but if the copy fails before it reads anything, it answers the Sync
// and runs what is behind. Which of them it was can't be seen afterwards. So what is behind waits until the copy has
// begun, and then for the end of a copy that walgate ends in its place.

// copyMark is in the error of a copy that walgate has ended.
const copyMark = "walgate: a request came during the copy"

// behindCopy reports whether a request waits for the copy before it.
func (s *Session) behindCopy(p wire.Piece, out *Actions) bool {
	switch p.Type {
	case 'd', 'c', 'f', 'H', 'S':
		return false
	}
	if s.copyPending {
		return true
	}
	if !s.ledger.CopyIn() || !s.ledger.SyncIgnored() || s.copied {
		return false
	}
	s.copyFailed, s.preparing = p.Type, true
	s.ledger.Push(wire.Owed[request]{Kind: wire.OwedCopyEnd})
	out.put(Server, wire.AppendCopyFail(out.own(Server), copyMark))
	return true
}

// copyEnded takes the error of a copy that walgate has ended. If it is the answer to that, the Sync was dropped. Any other
// came before: ReadyForQuery for the Sync will follow, and what waits goes on behind it, on another server connection.
func (s *Session) copyEnded(t wire.Trouble) (ours bool) {
	if ours = bytes.Contains(t.Message, []byte(copyMark)); ours {
		s.preparing = false
	}
	return ours
}
