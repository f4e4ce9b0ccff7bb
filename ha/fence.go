package ha

import "github.com/walgate/walgate/replication"

// unfenced is how much longer than its lease a holder goes on when the simulator takes the margin away.
const unfenced = 2

// fences returns F0 and F1 of the lease: when the door is shut, and when PostgreSQL must be dead.
func (o *Observation) fences() (f0, f1 replication.Instant) {
	if !o.Rules.Margin {
		f0 = o.Lease.SentAt.Add(unfenced * o.Timing.TTL)
		return f0, f0.Add(o.Timing.Kill)
	}
	ttl := o.Timing.TTL
	if b := o.Store.Beat; b != nil && b.TTL > 0 {
		ttl = min(ttl, b.TTL) // a longer one counts once a beat has told of it
	}
	f0 = o.Lease.SentAt.Add(ttl - o.Timing.Margin)
	return f0, f0.Add(o.Timing.Kill)
}

// ownBeat reports whether the last beat read was written by this incarnation, for the record's epoch.
func (o *Observation) ownBeat() bool {
	rec, beat, lease := o.Store.Record, o.Store.Beat, &o.Lease
	return rec != nil && beat != nil && lease.Nonce != "" && rec.Primary == o.Self.Name && beat.Holder == o.Self.Name &&
		beat.Nonce == lease.Nonce && beat.Epoch == rec.Epoch && lease.Epoch == rec.Epoch
}

// holding reports whether this incarnation holds an unreleased lease that has not run out on its own clock, or has
// nothing left to fence.
func (o *Observation) holding() bool {
	_, f1 := o.fences()
	return o.ownBeat() && o.Store.Beat.Release == nil && o.Now < f1
}

// writable reports whether the local PostgreSQL may be able to take writes now.
func (o *Observation) writable() bool {
	in := &o.Instance
	switch in.Process {
	case ProcessStopped:
		return false
	case ProcessRunning:
		return !in.InRecovery || o.Hands.Postgres.Busy && o.Hands.PostgresMove.Kind == PostgresPromote
	case ProcessStarting: // nodes boot as standby
		return o.Hands.Postgres.Busy && o.Hands.PostgresMove.Kind == PostgresPromote
	case ProcessStopping: // a standby that stops stays one to its end
		return !in.InRecovery
	default:
		return true
	}
}

// fence makes sure that PostgreSQL takes no write without a lease, and computes the door. It returns true when
// PostgreSQL is to be killed: then nothing else is decided.
func (t *tick) fence() bool {
	in, rec := &t.Instance, t.Store.Record
	f0, f1 := t.fences()
	lead := f1.Add(-t.Timing.KillLead)
	pausedNow := rec != nil && rec.Paused
	if own := t.ownBeat() && t.Store.Beat.Release == nil; !pausedNow && (own || t.writable()) {
		t.d.KillAt = max(f1, 1) // never disarmed while PostgreSQL may take writes
	}
	if t.ownBeat() && t.Store.Beat.Release == nil {
		t.wake(f0)
		t.wake(lead)
		t.d.Door = t.Now < f0 && rec.Open && in.Process == ProcessRunning && !in.InRecovery &&
			(in.GuardAlive || !t.Rules.Guard) && (rec.Handoff == nil || rec.Handoff.Phase != HandoffStop)
		if t.d.Door {
			t.d.DoorUntil = f0
		}
	}
	why := ""
	switch {
	case in.Process == ProcessRemains:
		why = "processes of a dead PostgreSQL may still acknowledge commits"
	case in.Process != ProcessStopped && !in.GuardAlive && t.Rules.Guard:
		why = "the guard is gone"
	case !t.writable() || rec == nil:
		return false
	case !t.ownBeat() && rec.Primary == t.Self.Name && t.Store.Beat == nil:
		why = "PostgreSQL takes writes though nobody has claimed"
	case !t.ownBeat():
		why = "the lease is not mine"
	case t.Store.Beat.Release != nil:
		why = "the lease has been released"
	case !pausedNow && t.Now >= lead:
		why = "the lease runs out"
	case !pausedNow && t.hung():
		why = "PostgreSQL hangs"
	}
	if why == "" {
		return false
	}
	t.d.Door, t.d.DoorUntil = false, 0
	t.postgres(PostgresMove{Kind: PostgresKillWhole})
	t.d.Why = "killing PostgreSQL: " + why
	return true
}

// hung reports whether PostgreSQL does not go on, and no client sees it go on.
func (t *tick) hung() bool {
	in := &t.Instance
	return in.Hung || in.ProbeFailures >= 3 && t.Now.Sub(in.StatementAt) > 3*t.Timing.Probe
}
