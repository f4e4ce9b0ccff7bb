package ha

import (
	"fmt"
	"slices"
	"time"
)

// handoffLag is how many bytes the candidate may be behind when the drain begins.
const handoffLag = 16 << 20

// handoff moves a planned switchover on by one step. Until the stop it can be called off, whatever missed its time.
func (t *tick) handoff() string {
	h, in := t.Store.Record.Handoff, &t.Instance
	if h.Phase == HandoffStop {
		t.postgres(PostgresMove{Kind: PostgresStopFast})
		return "stopping PostgreSQL"
	}
	if why := t.unfit(); why != "" {
		return t.callOff(why)
	}
	if t.passed(t.Store.HandoffSince, h.Deadline) {
		return t.callOff("its deadline has passed")
	}
	switch h.Phase {
	case HandoffPrepare:
		if !in.StopCheckpoint {
			if t.d.Postgres.Kind == PostgresLeave {
				t.postgres(PostgresMove{Kind: PostgresCheckpoint})
			}
			return "a checkpoint first, so that the stop is short"
		}
		return t.phase(HandoffDrain)
	case HandoffDrain:
		if dry, left := t.dry(); dry {
			return t.phase(HandoffStop)
		} else if !t.passed(t.Store.PhaseSince, h.DrainTimeout) {
			return left
		}
		if !h.CancelOpen {
			return t.callOff("transactions were still open after the drain")
		}
		return t.phase(HandoffCancel)
	case HandoffCancel:
		dry, left := t.dry()
		if dry {
			return t.phase(HandoffStop)
		}
		if t.passed(t.Store.PhaseSince, max(h.DrainTimeout, 2*time.Second)) {
			return t.callOff("transactions were still open after they had been cancelled")
		}
		return left
	}
	return t.callOff(fmt.Sprintf("phase %q is unknown", h.Phase))
}

// unfit returns why the candidate cannot take over now.
func (t *tick) unfit() string {
	rec, in := t.Store.Record, &t.Instance
	h := rec.Handoff
	i := slices.IndexFunc(in.Standbys, func(s Standby) bool { return s.Name == h.To && s.Streaming })
	switch {
	case h.From != t.Self.Name || h.To == t.Self.Name:
		return fmt.Sprintf("it goes from %s to %s, but %s leads", h.From, h.To, t.Self.Name)
	case !rec.eligible(h.To):
		return string(h.To) + " is no candidate"
	case !t.live(h.To):
		return "the agent of " + string(h.To) + " is not there"
	case i < 0:
		return string(h.To) + " does not stream"
	case in.End.BytesPast(in.Standbys[i].Flush) > handoffLag:
		return string(h.To) + " is too far behind"
	}
	return ""
}

// dry reports whether every live proxy has no transaction open, or who has.
func (t *tick) dry() (bool, string) {
	id := t.Store.Record.Handoff.ID
	for _, p := range t.Store.Proxies {
		switch {
		case p.HandoffID != id:
			return false, "proxy " + p.ID + " has not answered"
		case p.OpenTx > 0:
			return false, fmt.Sprintf("proxy %s has %d transactions open", p.ID, p.OpenTx)
		}
	}
	return true, ""
}

// phase writes the next phase.
func (t *tick) phase(next HandoffPhase) string {
	if t.d.Lease.Kind == LeaseKeep {
		rec := t.change()
		h := *rec.Handoff
		h.Phase = next
		rec.Handoff = &h
		t.write(rec)
	}
	return "entering " + string(next)
}

// callOff clears the handoff: everything goes on as before.
func (t *tick) callOff(why string) string {
	if t.d.Lease.Kind == LeaseKeep {
		rec := t.change()
		rec.Handoff = nil
		t.write(rec)
	}
	return "called off: " + why
}
