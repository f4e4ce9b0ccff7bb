package agent

import (
	"slices"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// knowledge is the newest snapshot of the store with the instants at which its facts were first seen here.
type knowledge struct {
	snap store.Snapshot

	beatRev      int64
	beatSince    replication.Instant
	epoch        replication.Epoch
	epochSince   replication.Instant
	handoff      string
	handoffSince replication.Instant
	phase        ha.HandoffPhase
	phaseSince   replication.Instant
	votes        []ha.VersionedVote
	votesSince   replication.Instant
}

// take makes snap the newest snapshot unless a newer one is known. now is an instant after it had arrived.
func (k *knowledge) take(snap store.Snapshot, now replication.Instant, lease *ha.Lease) {
	if snap.SentAt == 0 || snap.Revision < k.snap.Revision || snap.SentAt < k.snap.SentAt {
		return
	}
	first := k.snap.SentAt == 0
	k.snap = snap
	if first || snap.BeatRev != k.beatRev {
		k.beatRev, k.beatSince = snap.BeatRev, now
	}
	if beat := snap.Beat; first && beat != nil && lease.Nonce != "" && beat.Nonce == lease.Nonce && beat.Epoch == lease.Epoch {
		lease.N, lease.NextN = beat.N, beat.N+2 // one may be on its way that nobody remembers
	}
	record := snap.Record
	if record == nil {
		return
	}
	if first {
		lease.VoteRisk, lease.RecordRisk = record.Epoch+1, snap.RecordRev
	}
	if record.Epoch != k.epoch || k.epochSince == 0 {
		k.epoch, k.epochSince = record.Epoch, now
	}
	k.takeHandoff(record.Handoff, now)
	if votes := versioned(snap.Votes, record.Epoch+1); k.votesSince == 0 || !slices.Equal(votes, k.votes) {
		k.votes, k.votesSince = votes, now
	}
}

func (k *knowledge) takeHandoff(h *ha.Handoff, now replication.Instant) {
	if h == nil {
		k.handoff, k.handoffSince, k.phase, k.phaseSince = "", 0, "", 0
		return
	}
	if h.ID != k.handoff {
		k.handoff, k.handoffSince, k.phase = h.ID, now, ""
	}
	if h.Phase != k.phase {
		k.phase, k.phaseSince = h.Phase, now
	}
}

// versioned returns the votes for the epoch, sorted by node.
func versioned(all []store.VoteRev, epoch replication.Epoch) []ha.VersionedVote {
	var votes []ha.VersionedVote
	for _, v := range all {
		if v.Epoch == epoch {
			votes = append(votes, ha.VersionedVote{Vote: v.Vote, Rev: v.Rev})
		}
	}
	return votes
}

// facts returns the store as Decide sees it.
func (k *knowledge) facts() ha.Store {
	return ha.Store{
		Known: k.snap.SentAt != 0, ReadAt: k.snap.SentAt, InitHolder: k.snap.InitHolder,
		Record: k.snap.Record, RecordRev: k.snap.RecordRev,
		Beat: k.snap.Beat, BeatRev: k.snap.BeatRev, BeatSince: k.beatSince, EpochSince: k.epochSince,
		HandoffSince: k.handoffSince, PhaseSince: k.phaseSince,
		Votes: k.votes, VotesSince: k.votesSince,
		Ledger: k.snap.Ledger, Proxies: k.snap.Proxies, Nodes: k.snap.Nodes,
	}
}

// member returns the record's member of that name.
func (k *knowledge) member(name replication.NodeID) (ha.Member, bool) {
	if k.snap.Record == nil {
		return ha.Member{}, false
	}
	for _, m := range k.snap.Record.Members {
		if m.Name == name {
			return m, true
		}
	}
	return ha.Member{}, false
}
