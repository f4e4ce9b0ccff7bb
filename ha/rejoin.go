package ha

import (
	"fmt"
	"slices"

	"github.com/walgate/walgate/replication"
)

// VerdictKind says how a data directory comes back to its cluster.
type VerdictKind string

// The verdicts.
const (
	VerdictStart   VerdictKind = "start"   // its WAL is a prefix of the primary's: it may follow
	VerdictRewind  VerdictKind = "rewind"  // it holds WAL that the primary does not: pg_rewind to Fork
	VerdictReclone VerdictKind = "reclone" // pg_rewind cannot see or cure the difference
	VerdictRefuse  VerdictKind = "refuse"  // it is not ours: never touched
	VerdictWait    VerdictKind = "wait"    // not to be told yet; stand by, following nobody
)

// Verdict is how the local directory returns, and why. Fork is where it left the primary's history.
type Verdict struct {
	Kind VerdictKind
	Fork replication.LSN
	Why  string
}

// Rejoin compares the local directory with the record and its ledger, and says how it may return.
func Rejoin(o Observation) Verdict {
	t := tick{Observation: &o}
	return t.verdict()
}

func (t *tick) verdict() Verdict {
	rec, in := t.Store.Record, &t.Instance
	switch {
	case in.SystemID != rec.SystemID:
		return Verdict{Kind: VerdictRefuse, Why: fmt.Sprintf("the directory belongs to system %s, the cluster is %s", in.SystemID, rec.SystemID)}
	case in.Rejoin != nil && in.Rejoin.Epoch == rec.Epoch && in.Rejoin.SystemID != rec.SystemID:
		return Verdict{Kind: VerdictRefuse, Why: fmt.Sprintf("%s answers for system %s", in.Rejoin.Source, in.Rejoin.SystemID)}
	case in.Directory == DirectoryBroken || in.RewindFailed:
		return Verdict{Kind: VerdictReclone, Why: "a rewind left the directory unusable"}
	case rec.Primary == t.Self.Name:
		return Verdict{Kind: VerdictStart, Why: "this node led last"}
	}
	if why := t.foreignHistory(); why != "" {
		return t.certain(Verdict{Kind: VerdictReclone, Why: why})
	}
	origin, ok := t.origin()
	if !ok {
		return t.certain(Verdict{Kind: VerdictReclone, Why: fmt.Sprintf("nobody knows timeline %d of this directory", in.Timeline)})
	}
	i := byEpoch(rec.Chain, origin)
	switch {
	case i < 0 && origin == rec.Epoch:
		return Verdict{Kind: VerdictStart, Why: "it follows this epoch already"}
	case i < 0 && origin < rec.Chain[0].Epoch:
		return t.ancient(origin)
	case i < 0:
		return t.deadBranch(origin)
	case i+1 < len(rec.Chain):
		return t.against(rec.Chain[i+1].Fork, fmt.Sprintf("timeline %d ended", in.Timeline))
	case !rec.Open:
		v := t.against(rec.ClaimLSN, rec.wordFor("claimed"))
		if v.Kind == VerdictRewind {
			v = Verdict{Kind: VerdictWait, Why: "it holds more than " + string(rec.Primary) + ", who has not opened yet"}
		}
		return v
	}
	return t.sameBranch()
}

func (r *Record) wordFor(verb string) string { return string(r.Primary) + " " + verb }

// certain turns a verdict that destroys into a wait while the epoch is not open: its branch is not decided yet.
func (t *tick) certain(v Verdict) Verdict {
	if !t.Store.Record.Open {
		return Verdict{Kind: VerdictWait, Why: v.Why + "; the epoch is not open yet"}
	}
	return v
}

// against compares the end of the local WAL with where its branch ended in the primary's history.
func (t *tick) against(limit replication.LSN, what string) Verdict {
	in := &t.Instance
	end := in.End
	if in.Process == ProcessRunning && in.ReplayComplete {
		end = in.Replayed // what lies past it is no whole record
	}
	switch {
	case !end.Known():
		return Verdict{Kind: VerdictWait, Why: "the end of its WAL is not known"}
	case end <= limit:
		return Verdict{Kind: VerdictStart, Why: fmt.Sprintf("its WAL ends at %v, %s at %v", end, what, limit)}
	case in.Process == ProcessRunning && !in.ReplayComplete && in.Replayed <= limit:
		return Verdict{Kind: VerdictWait, Why: "replay of the local WAL goes on"}
	}
	return t.certain(Verdict{
		Kind: VerdictRewind, Fork: limit, Why: fmt.Sprintf("its WAL reaches to %v, but %s at %v", end, what, limit),
	})
}

// ancient compares with the ledger a directory whose timeline is older than the record's chain.
func (t *tick) ancient(origin replication.Epoch) Verdict {
	for _, e := range t.Store.Ledger {
		if e.Epoch > origin {
			return t.against(e.ForkLSN, fmt.Sprintf("timeline %d ended", t.Instance.Timeline))
		}
	}
	return t.certain(Verdict{Kind: VerdictReclone, Why: "it has been away for longer than the ledger reaches back"})
}

// deadBranch is the verdict on WAL of an epoch that the primary's history does not know: it never opened.
func (t *tick) deadBranch(origin replication.Epoch) Verdict {
	in, why := &t.Instance, fmt.Sprintf("it holds WAL of epoch %d, which never opened", origin)
	if _, taken := byTimeline(t.Store.Record.Chain, in.Timeline); taken {
		return t.certain(Verdict{Kind: VerdictReclone, Why: why + ", under a timeline number that was used again"})
	}
	var fork replication.LSN
	if n := len(in.History); n > 0 {
		fork = in.History[n-1].LSN
	}
	return t.certain(Verdict{Kind: VerdictRewind, Fork: fork, Why: why})
}

// foreignHistory finds a timeline number that was used twice: a switch point of the local history that differs from
// the ledger's. pg_rewind sees no difference there.
func (t *tick) foreignHistory() string {
	chain := t.Store.Record.Chain
	if l := t.Instance.Lineage; l != nil && l.SystemID == t.Instance.SystemID {
		for _, mine := range l.Chain {
			if b, ok := byTimeline(chain, mine.Timeline); ok && b.Epoch != mine.Epoch && t.reaches(mine.Timeline) {
				return fmt.Sprintf("its timeline %d was made in epoch %d, the cluster's in epoch %d", b.Timeline, mine.Epoch, b.Epoch)
			}
		}
	}
	for i := 1; i < len(chain); i++ {
		parent, b := chain[i-1].Timeline, chain[i]
		if at, ok := t.Instance.History.EndOf(parent); ok && t.Instance.Timeline >= b.Timeline && at != b.Fork && t.reaches(b.Timeline) {
			return fmt.Sprintf("its timeline %d forked off at %v, the cluster's at %v", b.Timeline, at, b.Fork)
		}
	}
	return ""
}

// reaches reports whether the timeline is the local one or among its ancestors.
func (t *tick) reaches(timeline replication.Timeline) bool {
	_, ok := t.Instance.History.EndOf(timeline)
	return ok || timeline == t.Instance.Timeline
}

// sameBranch is the verdict on the primary's own newest branch. A standby never holds more of it than the primary has
// flushed – unless the primary lost WAL, or it was started out of recovery by somebody else.
func (t *tick) sameBranch() Verdict {
	in, f := &t.Instance, t.Instance.Rejoin
	if f != nil && f.Epoch == t.Store.Record.Epoch && f.Timeline == in.Timeline && in.End > f.Flush && in.Follows == "" {
		return Verdict{Kind: VerdictReclone, Why: fmt.Sprintf(
			"it reaches to %v on the primary's timeline %d, past the primary's %v: pg_rewind would not see it", in.End, in.Timeline, f.Flush)}
	}
	if in.WasPrimary && in.Process == ProcessStopped && in.Lineage == nil {
		return Verdict{Kind: VerdictWait, Why: "it ran out of recovery"}
	}
	return Verdict{Kind: VerdictStart, Why: "it is on the primary's timeline"}
}

// sourceReady reports whether there is an open primary to copy from. Nothing is destroyed without one.
func (t *tick) sourceReady() bool {
	rec := t.Store.Record
	return rec.Open && rec.Primary != t.Self.Name && !t.leaderless()
}

// rewindAttempts is after how many failures in a row a directory is cloned anew instead.
const rewindAttempts = 3

// restore carries out a rewind or a reclone: at most one at a time in the cluster.
func (t *tick) restore(v Verdict) Decision {
	rec, in := t.Store.Record, &t.Instance
	switch {
	case t.unsettled():
		return t.because("%s; waiting for fresh facts of PostgreSQL", v.Why)
	case !t.sourceReady():
		return t.because("%s; waiting for an open primary", v.Why)
	case rec.synchronous() && slices.Contains(rec.Sync.Voters, t.Self.Name) && in.Directory == DirectoryPresent:
		if in.Process == ProcessStopped {
			t.startFrozen()
		}
		return t.because("%s: waiting until %s counts on this node's vote no more: %s", v.Kind, rec.Primary, v.Why)
	case in.Process != ProcessStopped:
		t.postgres(PostgresMove{Kind: PostgresStopFast})
		return t.because("stopping for %s: %s", v.Kind, v.Why)
	case t.Now < in.RetryAt:
		t.wake(in.RetryAt)
		return t.because("%s failed %d times, trying again soon: %s", v.Kind, in.Attempts, v.Why)
	case t.copying() != "":
		return t.because("%s: waiting for the copy that %s makes", v.Kind, t.copying())
	}
	f := in.Rejoin
	if v.Kind == VerdictRewind && f != nil && f.Epoch == rec.Epoch && f.Timeline == in.Timeline {
		v = Verdict{Kind: VerdictReclone, Why: v.Why + "; pg_rewind cannot, the timeline has the same number"}
	}
	if v.Kind == VerdictRewind && in.Attempts >= rewindAttempts {
		v = Verdict{Kind: VerdictReclone, Why: v.Why + "; pg_rewind has failed three times"}
	}
	switch {
	case v.Kind == VerdictReclone:
		t.postgres(PostgresMove{Kind: PostgresReclone, Source: t.copySource(), Lineage: t.copied(), Fork: v.Fork})
	case f == nil || f.Epoch != rec.Epoch || !f.Checkpointed:
		t.postgres(PostgresMove{Kind: PostgresInspect, Source: rec.Primary})
		return t.because("asking %s before the rewind: %s", rec.Primary, v.Why)
	default:
		t.postgres(PostgresMove{Kind: PostgresRewind, Source: rec.Primary, Lineage: t.copied(), Fork: v.Fork})
	}
	return t.because("%s: %s", v.Kind, v.Why)
}

// clone fills an absent or empty directory.
func (t *tick) clone() Decision {
	in := &t.Instance
	switch {
	case !t.sourceReady():
		return t.because("no data directory: waiting for an open primary to clone")
	case t.Now < in.RetryAt:
		t.wake(in.RetryAt)
		return t.because("cloning failed %d times, trying again soon", in.Attempts)
	case t.copying() != "":
		return t.because("no data directory: waiting for the copy that %s makes", t.copying())
	}
	source := t.copySource()
	t.postgres(PostgresMove{Kind: PostgresClone, Source: source, Lineage: t.copied()})
	return t.because("no data directory: cloning %s", source)
}

// copying returns another live node that clones or rewinds now, or empty.
func (t *tick) copying() replication.NodeID {
	for _, n := range t.Store.Nodes {
		if n.Name != t.Self.Name && (n.State == "cloning" || n.State == "rewinding") {
			return n.Name
		}
	}
	return ""
}

// copySource returns a healthy standby to clone from, so that the primary is spared, or the primary.
func (t *tick) copySource() replication.NodeID {
	rec := t.Store.Record
	i := slices.IndexFunc(t.Store.Nodes, func(n NodeReport) bool {
		return n.Name != t.Self.Name && n.Name != rec.Primary && n.State == "streaming" && n.Timeline == rec.Timeline
	})
	if i < 0 {
		return rec.Primary
	}
	return t.Store.Nodes[i].Name
}
