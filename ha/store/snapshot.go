package store

import (
	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// LedgerWindow is how many of the newest ledger entries a Snapshot holds: every read carries them.
const LedgerWindow = 64

// VoteRev is a vote with the revision that a Claim must find unchanged.
type VoteRev struct {
	ha.Vote
	Rev int64
}

// Snapshot is everything under the cluster's prefix at one revision, read in one linearizable transaction. It is
// immutable: pointers and slices are shared and must not be written to.
type Snapshot struct {
	// SentAt is when the question was sent: the snapshot shows everything committed before it. The zero Instant marks
	// the zero Snapshot, which was never read.
	SentAt   replication.Instant
	Revision int64 // of the whole store

	Record    *ha.Record // nil before bootstrap
	RecordRev int64      // 0 when absent
	Beat      *ha.Beat   // nil before the first claim
	BeatRev   int64      // 0 when absent

	Votes   []VoteRev        // standing votes of every epoch, by epoch and node; withdrawn ones are left out
	Ledger  []ha.LedgerEntry // the newest LedgerWindow entries, oldest first
	Nodes   []ha.NodeReport  // of live registrations, by name
	Proxies []ha.ProxyReport // of live registrations, by id

	InitHolder replication.NodeID // who runs initdb; empty when nobody does
	InitRev    int64              // 0 when absent
}

// Node returns the report of the named node; ok is false when its registration is gone.
func (s Snapshot) Node(name replication.NodeID) (report ha.NodeReport, ok bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return ha.NodeReport{}, false
}

// VotesFor returns the standing votes for a claim of the epoch.
func (s Snapshot) VotesFor(epoch replication.Epoch) []VoteRev {
	var votes []VoteRev
	for _, v := range s.Votes {
		if v.Epoch == epoch {
			votes = append(votes, v)
		}
	}
	return votes
}

// Entry returns the ledger's entry of the epoch; ok is false when there is none within the window.
func (s Snapshot) Entry(epoch replication.Epoch) (entry ha.LedgerEntry, ok bool) {
	for _, e := range s.Ledger {
		if e.Epoch == epoch {
			return e, true
		}
	}
	return ha.LedgerEntry{}, false
}
