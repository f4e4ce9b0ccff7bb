package ha

import (
	"fmt"
	"slices"
	"time"

	"github.com/walgate/walgate/replication"
)

// Decide says what to do now. It is a pure function of the observation. It is asked at every event and at WakeAt; the
// answer may differ from tick to tick only because the facts do. Safety comes first (fence), then what both hands do.
func Decide(o Observation) Decision {
	t := tick{Observation: &o, d: Decision{
		Lease: LeaseMove{Kind: LeaseKeep}, Postgres: PostgresMove{Kind: PostgresLeave},
	}}
	if t.fence() {
		return t.d
	}
	if !o.Store.Known {
		return t.because("the store has not been read yet")
	}
	rec := o.Store.Record
	switch {
	case rec == nil:
		return t.bootstrap()
	case o.Instance.Directory == DirectoryPresent && o.Instance.SystemID != rec.SystemID:
		return t.stranger()
	case rec.Paused:
		return t.paused()
	case t.holding():
		return t.lead()
	}
	if move, ok := t.join(); ok {
		t.d.Lease = move
	}
	return t.follow()
}

// tick is one call of Decide: the observation, and the decision as it grows.
type tick struct {
	*Observation
	d Decision
}

// because ends the tick with its reason.
func (t *tick) because(format string, args ...any) Decision {
	t.d.Why = fmt.Sprintf(format, args...)
	return t.d
}

// wake asks for another decision at the instant, if it lies ahead.
func (t *tick) wake(at replication.Instant) {
	if at > t.Now && (t.d.WakeAt == 0 || at < t.d.WakeAt) {
		t.d.WakeAt = at
	}
}

// passed reports whether d has gone by since the instant, and wakes when it will have.
func (t *tick) passed(since replication.Instant, d time.Duration) bool {
	t.wake(since.Add(d))
	return t.Now >= since.Add(d)
}

// postgres sets the PostgreSQL hand's move.
func (t *tick) postgres(m PostgresMove) { t.d.Postgres = m }

// bootstrap makes a cluster where the store is empty.
func (t *tick) bootstrap() Decision {
	in, mine := &t.Instance, t.Store.InitHolder == t.Self.Name
	switch {
	case in.Directory == DirectoryForeign:
		return t.because("the data directory holds files that are no PostgreSQL cluster: move them away")
	case in.Directory == DirectoryPresent && !in.Fresh:
		return t.because("the store is empty but there is a data directory: bootstrap refused; restore the store, or remove the directory")
	case t.Store.InitHolder != "" && !mine:
		return t.because("%s runs initdb", t.Store.InitHolder)
	case t.Self.Tags["nofailover"] == "true":
		return t.because("the store is empty: waiting for a node that may be primary to run initdb")
	case !mine:
		t.d.Lease = LeaseMove{Kind: LeaseTakeInit}
		return t.because("the store is empty: taking the init lock")
	case in.Directory == DirectoryPresent && in.SystemID != "":
		timeline := max(in.Timeline, 1)
		t.d.Lease = LeaseMove{Kind: LeaseBootstrap, Record: &Record{
			Version: 1, Cluster: t.Defaults.Cluster, SystemID: in.SystemID, Primary: t.Self.Name,
			Timeline: timeline, Chain: []Branch{{Timeline: timeline}}, Members: []Member{t.Self},
			Sync: Sync{Mode: t.Defaults.Sync.Mode, Quorum: max(t.Defaults.Sync.Quorum, 1)}, Settings: t.Defaults.Settings,
		}}
		return t.because("initdb is done: creating the record")
	default:
		t.postgres(PostgresMove{Kind: PostgresInitdb})
		return t.because("the init lock is mine: running initdb")
	}
}

// stranger handles a data directory of another system: its data is never touched.
func (t *tick) stranger() Decision {
	in := &t.Instance
	if in.Process != ProcessStopped {
		t.postgres(PostgresMove{Kind: PostgresStopFast})
		return t.because("the data directory belongs to system %s, the cluster is %s: stopping", in.SystemID, t.Store.Record.SystemID)
	}
	if in.Fresh {
		t.postgres(PostgresMove{Kind: PostgresDropFresh})
		return t.because("another node created the cluster: putting the fresh data directory aside")
	}
	return t.because("refused: the data directory belongs to system %s, the cluster is %s", in.SystemID, t.Store.Record.SystemID)
}

// paused keeps the lease and touches nothing else.
func (t *tick) paused() Decision {
	if t.ownBeat() && t.Store.Beat.Release == nil && t.writable() {
		t.renew()
	}
	return t.because("paused: automatic moves are suspended")
}

// join puts this node among the record's members, or corrects what it says of it.
func (t *tick) join() (LeaseMove, bool) {
	rec := t.Store.Record
	i, found := memberIndex(rec.Members, t.Self.Name)
	if found && sameMember(rec.Members[i], t.Self) {
		return LeaseMove{}, false
	}
	next := t.change()
	if found {
		next.Members[i] = t.Self
	} else {
		next.Members = slices.Insert(next.Members, i, t.Self)
	}
	return LeaseMove{Kind: LeaseJoin, Record: next, RecordRev: t.Store.RecordRev}, true
}

// change returns a copy of the record to write next: everything in it that is changed in place is its own.
func (t *tick) change() *Record {
	next := *t.Store.Record
	next.Version++
	next.Members = slices.Clone(next.Members)
	next.Chain = slices.Clone(next.Chain)
	next.Sync.Voters = slices.Clone(next.Sync.Voters)
	return &next
}

// write sets the lease hand to put the record.
func (t *tick) write(next *Record) {
	t.d.Lease = LeaseMove{Kind: LeaseWrite, Record: next, RecordRev: t.Store.RecordRev}
}

func memberIndex(members []Member, name replication.NodeID) (int, bool) {
	return slices.BinarySearchFunc(members, name, func(m Member, n replication.NodeID) int {
		switch {
		case m.Name < n:
			return -1
		case m.Name > n:
			return 1
		}
		return 0
	})
}

func sameMember(a, b Member) bool {
	if a.Name != b.Name || a.Host != b.Host || a.Port != b.Port || a.API != b.API || len(a.Tags) != len(b.Tags) {
		return false
	}
	for k, v := range a.Tags {
		if w, ok := b.Tags[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// eligible reports whether the member may become primary and stand among the voters.
func (r *Record) eligible(name replication.NodeID) bool {
	i, found := memberIndex(r.Members, name)
	return found && r.Members[i].Tags["nofailover"] != "true"
}

// synchronous reports whether commits wait for standbys as a rule.
func (r *Record) synchronous() bool { return r.Sync.Mode == SyncQuorum || r.Sync.Mode == SyncStrict }

// live reports whether the node's agent is registered: it lives and reaches the store.
func (t *tick) live(name replication.NodeID) bool {
	return slices.ContainsFunc(t.Store.Nodes, func(n NodeReport) bool { return n.Name == name })
}
