package ha

import (
	"slices"

	"github.com/walgate/walgate/replication"
)

// VotesNeeded returns how many of n voters a claim must meet so that it meets one of any k that acknowledged. With
// fewer voters than k all of them hold every acknowledged commit, and one is enough.
func VotesNeeded(n, k int) int { return max(1, n-max(k, 1)+1) }

// nobody is a name that no standby can have: with it alone in synchronous_standby_names every commit waits.
const nobody replication.NodeID = "walgate_nobody"

// votersAfterClaim returns (V − me) + old primary: whoever may hold commits acknowledged before the claim.
func votersAfterClaim(voters []replication.NodeID, me, old replication.NodeID) []replication.NodeID {
	next := slices.DeleteFunc(slices.Clone(voters), func(n replication.NodeID) bool { return n == me })
	if old != me && old != "" && !slices.Contains(next, old) {
		next = append(next, old)
	}
	slices.Sort(next)
	return next
}

// namesFor returns the setting a primary of this record must start with: all voters, or in strict mode nobody.
func namesFor(rec *Record) SyncNames {
	k := max(rec.Sync.Quorum, 1)
	switch {
	case !rec.synchronous():
		return SyncNames{}
	case len(rec.Sync.Voters) > 0:
		return SyncNames{Quorum: k, Names: slices.Clone(rec.Sync.Voters)}
	case rec.Sync.Mode == SyncStrict:
		return SyncNames{Quorum: k, Names: []replication.NodeID{nobody}}
	default:
		return SyncNames{}
	}
}

// equal reports whether two settings are the same; without names the quorum does not matter.
func (n SyncNames) equal(other SyncNames) bool {
	return slices.Equal(n.Names, other.Names) && (len(n.Names) == 0 || n.Quorum == other.Quorum)
}

// maintainSync moves voters (V, in the record) and names (S, synchronous_standby_names) toward the standbys that
// stream, one step at a time. Any V may grow, and may become empty; any other V' may be written only once
// S ⊆ V' has been in force and k of V' have flushed the primary's flush position sampled after that (NamesFloor):
// then k of V' hold every commit ever acknowledged. S stays within V, unless V is empty.
func (t *tick) maintainSync() (why string) {
	rec, in := t.Store.Record, &t.Instance
	v, s, k := rec.Sync.Voters, in.Names, max(rec.Sync.Quorum, 1)
	if !rec.synchronous() {
		return t.asynchronous()
	}
	live := t.streaming()
	settled := t.passed(max(in.StandbysSince, t.Store.EpochSince), t.Timing.Degrade)
	want := live
	if !settled { // a standby that has just gone stays; its commits wait a little
		want = union(live, intersect(s.Names, union(v, live)))
		want = slices.DeleteFunc(want, func(n replication.NodeID) bool { return n == nobody })
	}
	if !t.Rules.VotersBeforeNames {
		return t.careless(live, k)
	}
	if len(want) < k {
		return t.degrade(v, s, k)
	}
	if len(v) == 0 {
		return t.firstVoters(want, s, k)
	}
	switch {
	case len(minus(want, v)) > 0:
		t.setVoters(union(v, want))
		return "adding voters before they are waited for"
	case !s.equal(SyncNames{k, want}) || !in.NamesInForce:
		t.setNames(SyncNames{k, want})
		return "naming the standbys that stream"
	case !slices.Equal(v, want):
		if !t.reached(want, k) {
			return "voters stay until the remaining standbys hold every acknowledged commit"
		}
		t.setVoters(want)
		return "dropping voters that are not waited for any more"
	}
	return ""
}

// strictPatience is how many times Degrade a strict primary without standbys keeps its voters.
const strictPatience = 5

// asynchronous clears what a synchronous mode left behind.
func (t *tick) asynchronous() string {
	switch rec := t.Store.Record; {
	case len(rec.Sync.Voters) > 0:
		t.setVoters(nil)
		return "asynchronous mode: no voters"
	case len(t.Instance.Names.Names) > 0:
		t.setNames(SyncNames{})
		return "asynchronous mode: commits wait for nobody"
	}
	return ""
}

// degrade handles fewer standbys than commits must wait for.
func (t *tick) degrade(v []replication.NodeID, s SyncNames, k int) string {
	if t.Store.Record.Sync.Mode == SyncStrict {
		// A voter that lives but does not stream may have to be copied anew, and its old copy must not count then.
		if t.passed(max(t.Instance.StandbysSince, t.Store.EpochSince), strictPatience*t.Timing.Degrade) &&
			slices.ContainsFunc(v, t.live) {
			t.setVoters(nil)
		}
		if len(s.Names) == 0 {
			t.setNames(SyncNames{k, []replication.NodeID{nobody}})
		}
		return "strict mode: commits wait until standbys are back"
	}
	switch {
	case len(v) > 0:
		t.setVoters(nil)
		return "too few standbys: nobody but this node may claim from now on"
	case len(s.Names) > 0:
		t.setNames(SyncNames{})
		return "too few standbys: commits wait for nobody"
	}
	return ""
}

// firstVoters leads back from no voters: names first, voters once k of them hold everything.
func (t *tick) firstVoters(want []replication.NodeID, s SyncNames, k int) string {
	switch {
	case !s.equal(SyncNames{k, want}) || !t.Instance.NamesInForce:
		t.setNames(SyncNames{k, want})
		return "standbys are back: commits wait for them again"
	case !t.reached(want, k):
		return "no voters until the standbys hold every acknowledged commit"
	}
	t.setVoters(want)
	return "the standbys hold every acknowledged commit: they may vote"
}

// careless is maintainSync without its order, for the simulator.
func (t *tick) careless(live []replication.NodeID, k int) string {
	want := SyncNames{}
	if len(live) >= k {
		want = SyncNames{k, live}
	}
	if !t.Instance.Names.equal(want) {
		t.setNames(want)
	}
	if !slices.Equal(t.Store.Record.Sync.Voters, want.Names) && len(want.Names) > 0 {
		t.setVoters(want.Names)
	}
	return "careless"
}

// reached reports whether k of the voters have flushed everything that was acknowledged before the names in force.
func (t *tick) reached(voters []replication.NodeID, k int) bool {
	in := &t.Instance
	if !in.NamesInForce || !in.NamesFloor.Known() {
		return false
	}
	return t.flushedBy(voters, in.NamesFloor) >= k
}

// flushedBy counts the voters that have flushed up to the position, as streaming standbys of this primary.
func (t *tick) flushedBy(voters []replication.NodeID, lsn replication.LSN) int {
	n := 0
	for _, name := range voters {
		if slices.ContainsFunc(t.Instance.Standbys, func(s Standby) bool {
			return s.Name == name && s.Streaming && s.Flush >= lsn
		}) {
			n++
		}
	}
	return n
}

// streaming returns the eligible members that stream from this primary, sorted.
func (t *tick) streaming() []replication.NodeID {
	var names []replication.NodeID
	for _, s := range t.Instance.Standbys {
		if s.Streaming && s.Name != t.Self.Name && t.Store.Record.eligible(s.Name) && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// setVoters writes the voters, if the lease hand has nothing more urgent.
func (t *tick) setVoters(voters []replication.NodeID) {
	if t.d.Lease.Kind != LeaseKeep {
		return
	}
	next := t.change()
	next.Sync.Voters = voters
	t.write(next)
}

// setNames changes synchronous_standby_names – never while an own write of the record may yet come to pass.
func (t *tick) setNames(names SyncNames) {
	if t.recordRisk() && t.Rules.VotersBeforeNames {
		return
	}
	if t.d.Postgres.Kind == PostgresLeave || t.d.Postgres.Kind == PostgresCheckpoint {
		t.postgres(PostgresMove{Kind: PostgresNames, Names: names})
	}
}

// recordRisk reports whether an own write of the record of unknown outcome may still come to pass.
func (t *tick) recordRisk() bool {
	return t.Lease.RecordRisk != 0 && t.Lease.RecordRisk == t.Store.RecordRev
}

func union(a, b []replication.NodeID) []replication.NodeID {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

func intersect(a, b []replication.NodeID) []replication.NodeID {
	return slices.DeleteFunc(slices.Clone(a), func(n replication.NodeID) bool { return !slices.Contains(b, n) })
}

func minus(a, b []replication.NodeID) []replication.NodeID {
	return slices.DeleteFunc(slices.Clone(a), func(n replication.NodeID) bool { return slices.Contains(b, n) })
}
