package ha

import (
	"slices"
	"time"

	"github.com/walgate/walgate/replication"
)

// lead is what the holder of the lease does: keep it, and bring its PostgreSQL to the open door or, when that is dead,
// let go of the lease. fence has been asked before.
func (t *tick) lead() Decision {
	in, rec := &t.Instance, t.Store.Record
	if in.Process == ProcessStopped && !t.unsettled() {
		return t.lostPostgres()
	}
	if in.Process == ProcessStarting || in.Process == ProcessRunning && in.InRecovery && t.leftover() {
		return t.inPlace()
	}
	t.renew()
	switch {
	case in.Process == ProcessStopping || in.Process == ProcessStopped:
		return t.because("PostgreSQL is stopping")
	case in.InRecovery:
		return t.promote()
	case !rec.Open:
		return t.open()
	}
	if t.recordRisk() {
		t.touch()
	}
	if h := rec.Handoff; h != nil {
		why := t.handoff()
		if h.Phase != HandoffStop {
			t.maintainSync()
		}
		return t.because("switchover to %s: %s", h.To, why)
	}
	if why := t.maintainSync(); why != "" {
		if t.d.Postgres.Kind == PostgresLeave {
			t.keepSlots()
		}
		return t.because("primary: %s", why)
	}
	t.keepSlots()
	if t.d.Lease.Kind == LeaseKeep {
		if move, ok := t.join(); ok {
			t.d.Lease = move
		}
	}
	return t.because("primary of epoch %d", rec.Epoch)
}

// renew beats when the period is over. A lease hand that is late goes on trying: success counts from its send.
func (t *tick) renew() {
	if !t.passed(t.Lease.SentAt, t.Timing.Renew) {
		return
	}
	beat := t.beat()
	t.d.Lease = LeaseMove{Kind: LeaseRenew, Beat: &beat, BeatRev: t.Store.BeatRev}
}

// beat returns the next beat of this holder.
func (t *tick) beat() Beat {
	b := *t.Store.Beat
	b.N, b.TTL = t.Lease.NextN, t.Timing.TTL
	b.Release = nil
	if p, ok := t.position(); ok && t.Instance.Process == ProcessRunning {
		b.Origin, b.Timeline, b.Flush = p.Origin, p.Timeline, p.LSN
	}
	return b
}

// touch writes the record unchanged but for its version, so that an own earlier write can no longer come to pass.
func (t *tick) touch() {
	if t.d.Lease.Kind == LeaseKeep {
		t.write(t.change())
	}
}

// leftover reports whether the instance in recovery is not the one with which the epoch was claimed: PostgreSQL of
// this epoch has been out of recovery and died, and the directory was started again.
func (t *tick) leftover() bool {
	origin, ok := t.origin()
	return t.Store.Record.Open || ok && origin == t.Store.Record.Epoch
}

// promote leads the claimer from recovery to the end of it.
func (t *tick) promote() Decision {
	in := &t.Instance
	want := t.slots()
	switch {
	case in.Follows != "" || in.ReceiverAlive:
		t.postgres(PostgresMove{Kind: PostgresFreeze})
		return t.because("claimed: the WAL receiver goes")
	case !slices.Equal(in.Slots, want):
		t.postgres(PostgresMove{Kind: PostgresSlots, Slots: want})
		return t.because("claimed: making slots for the others")
	case !in.ReplayComplete:
		return t.because("claimed: replay goes on at %v of %v", in.Replayed, in.End)
	case in.CapturedXID == 0 || in.CapturedEnd < in.Replayed:
		t.postgres(PostgresMove{Kind: PostgresPrepare})
		return t.because("claimed: noting the next transaction id")
	}
	f0, _ := t.fences()
	if t.Now >= f0 {
		return t.because("claimed: not promoting with a lease that runs out")
	}
	t.postgres(PostgresMove{Kind: PostgresPromote, Names: namesFor(t.Store.Record), Lineage: t.lineage()})
	return t.because("claimed: promoting")
}

// open writes the ledger and opens the door.
func (t *tick) open() Decision {
	rec, in := t.Store.Record, &t.Instance
	if why := t.mayOpen(); why != "" {
		// An in-place restart needs its standbys, or to say that there are none: names and voters move as usual.
		if t.recordRisk() {
			t.touch()
		}
		if sync := t.maintainSync(); sync != "" {
			why += "; " + sync
		}
		if t.d.Postgres.Kind == PostgresLeave {
			t.keepSlots()
		}
		return t.because("claimed: %s", why)
	}
	origin, _ := t.origin()
	fork := t.fork()
	next := t.change()
	next.Open = true
	next.Timeline, next.ForkLSN = in.Timeline, fork
	next.Chain = extend(next.Chain, Branch{Epoch: origin, Timeline: in.Timeline, Fork: fork, By: t.Self.Name})
	entry := &LedgerEntry{
		Epoch: rec.Epoch, Timeline: in.Timeline, ForkLSN: fork, NextXID: in.CapturedXID, SystemID: in.SystemID,
		Winner: t.Self.Name, Time: t.Wall,
	}
	if rec.Last != nil && rec.Last.Epoch == rec.Epoch {
		last := *rec.Last
		last.PauseMS += t.Now.Sub(t.Store.EpochSince).Milliseconds()
		last.At = t.Wall
		entry.From, entry.Reason = last.From, last.Reason
		next.Last = &last
	}
	entry.Votes, next.Votes = rec.Votes, nil
	if t.d.Lease.Kind == LeaseKeep {
		t.d.Lease = LeaseMove{
			Kind: LeaseOpen, Record: next, RecordRev: t.Store.RecordRev, Entry: entry, BeatRev: t.Store.BeatRev,
		}
	}
	t.keepSlots()
	return t.because("claimed: out of recovery on timeline %d, opening the door", in.Timeline)
}

// fork returns where the newest timeline forked off: from the history file.
func (t *tick) fork() replication.LSN {
	if n := len(t.Instance.History); n > 0 {
		return t.Instance.History[n-1].LSN
	}
	return t.Instance.CapturedEnd
}

// mayOpen returns why the door must stay shut; empty if it may be opened.
func (t *tick) mayOpen() string {
	rec, in := t.Store.Record, &t.Instance
	origin, ok := t.origin()
	switch {
	case !ok || origin != rec.Epoch:
		return "out of recovery, but not on a timeline of this epoch"
	case !in.EndOfRecovery.Known():
		return "sampling the end of recovery"
	case !rec.synchronous() || rec.Last == nil || rec.Last.From != t.Self.Name:
		return ""
	}
	// Restarted in place: what waiting transactions wrote is visible now, and must not be lost again.
	voters := rec.Sync.Voters
	if len(voters) == 0 { // nobody else may claim: nothing that is seen here can vanish
		return ""
	}
	if t.flushedBy(voters, in.EndOfRecovery) < max(rec.Sync.Quorum, 1) {
		return "restarted in place: waiting for voters to hold the end of recovery"
	}
	return ""
}

// slots returns the replication slots that a primary needs: one for each other member.
func (t *tick) slots() []replication.NodeID {
	var names []replication.NodeID
	for _, m := range t.Store.Record.Members {
		if m.Name != t.Self.Name {
			names = append(names, m.Name)
		}
	}
	return names
}

// keepSlots does the PostgreSQL hand's chores on an idle primary.
func (t *tick) keepSlots() {
	in := &t.Instance
	if t.d.Postgres.Kind != PostgresLeave {
		return
	}
	switch want := t.slots(); {
	case !slices.Equal(in.Slots, want):
		t.postgres(PostgresMove{Kind: PostgresSlots, Slots: want})
	case !in.Checkpointed && t.Store.Record.Open:
		t.postgres(PostgresMove{Kind: PostgresCheckpoint})
	}
}

// lostPostgres is what the holder does when its PostgreSQL is dead to the last process.
func (t *tick) lostPostgres() Decision {
	in, rec := &t.Instance, t.Store.Record
	if in.Directory != DirectoryPresent {
		return t.because("the data directory is %s: letting the lease run out", in.Directory)
	}
	if rec.Settings.OnCrash == "restart" && (rec.Handoff == nil || rec.Handoff.Phase != HandoffStop) || !t.successor() {
		t.renew()
		t.startFrozen()
		return t.because("PostgreSQL died: starting it in place")
	}
	pos, ok := t.position()
	switch {
	case !in.End.Known() && in.Attempts > 0: // a successor that holds what was acknowledged must not wait for a broken disk
		return t.because("PostgreSQL died, and the end of its WAL can't be read: letting the lease run out")
	case !in.End.Known():
		t.renew()
		t.postgres(PostgresMove{Kind: PostgresReadEnd})
		return t.because("PostgreSQL died: reading the end of its WAL")
	case !ok:
		return t.because("PostgreSQL died, and nobody knows timeline %d: letting the lease run out", in.Timeline)
	}
	release := &Release{Kind: ReleaseCrash, Origin: pos.Origin, Timeline: pos.Timeline, LSN: pos.LSN}
	if in.Clean {
		release.Kind = ReleaseClean
		if h := rec.Handoff; h != nil && h.Phase == HandoffStop {
			release.To = h.To
		}
	}
	beat := *t.Store.Beat
	beat.N, beat.Origin, beat.Timeline, beat.Flush, beat.Release = t.Lease.NextN, pos.Origin, pos.Timeline, pos.LSN, release
	t.d.Lease = LeaseMove{Kind: LeaseRelease, Beat: &beat, BeatRev: t.Store.BeatRev}
	return t.because("PostgreSQL is dead: releasing the lease (%s) at %v", release.Kind, pos.LSN)
}

// successor reports whether another node lives that could take over.
func (t *tick) successor() bool {
	rec := t.Store.Record
	for _, m := range rec.Members {
		if m.Name != t.Self.Name && rec.eligible(m.Name) && t.live(m.Name) {
			return true
		}
	}
	return false
}

// inPlace is what the holder does while the PostgreSQL of its epoch comes back as standby.
func (t *tick) inPlace() Decision {
	in := &t.Instance
	if in.Process == ProcessStarting {
		if (in.Hung || time.Duration(in.ProbeFailures)*t.Timing.Probe > t.Timing.Start) && t.successor() {
			t.postgres(PostgresMove{Kind: PostgresKillWhole})
			return t.because("killing PostgreSQL: it does not start in place, and another node can take over")
		}
		t.renew()
		return t.because("PostgreSQL is starting in place")
	}
	if why, ok := t.claim(); !ok {
		t.renew()
		return t.because("restarted in place: %s", why)
	}
	return t.d
}

// startFrozen boots as standby that follows nobody; the end of its WAL is known when it runs.
func (t *tick) startFrozen() {
	if t.Now < t.Instance.RetryAt {
		t.wake(t.Instance.RetryAt)
		return
	}
	t.postgres(PostgresMove{Kind: PostgresStart})
}
