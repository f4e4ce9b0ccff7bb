package ha

import (
	"testing"

	"github.com/walgate/walgate/replication"
)

func lsn(n int) replication.LSN { return replication.LSN(n) }

func TestRejoin(t *testing.T) {
	older := func(o *Observation) { // a directory of epoch 4, timeline 5, that ended at 500
		o.Instance.Timeline, o.Instance.History = 5, replication.History{{Timeline: 1, LSN: 300}}
		o.Instance.Lineage = &Lineage{SystemID: "sys", Epoch: 4, Primary: "b", Chain: o.Store.Record.Chain[:2]}
		o.Instance.Follows, o.Instance.ReceiverAlive = "", false
		o.Instance.End, o.Instance.Replayed = 500, 500
	}
	ends := func(end int) func(*Observation) {
		return func(o *Observation) {
			older(o)
			o.Instance.End, o.Instance.Replayed = lsn(end), lsn(end)
		}
	}
	for _, c := range []struct {
		name   string
		change func(o *Observation)
		want   VerdictKind
	}{
		{"same branch", func(*Observation) {}, VerdictStart},
		{"other system", func(o *Observation) { o.Instance.SystemID = "x" }, VerdictRefuse},
		{"older timeline, ends at the fork", ends(500), VerdictStart},
		{"older timeline, ends before the fork", ends(499), VerdictStart},
		{"older timeline, ends past the fork", ends(501), VerdictRewind},
		{"older timeline, the end is not known", ends(0), VerdictWait},
		{"past the fork, but the epoch is not open", func(o *Observation) { ends(501)(o); o.Store.Record.Open = false }, VerdictWait},
		{"received past the fork, replay goes on", func(o *Observation) {
			ends(501)(o)
			o.Instance.Replayed, o.Instance.ReplayComplete = 400, false
		}, VerdictWait},
		{"received part of a record past the fork", func(o *Observation) { ends(501)(o); o.Instance.Replayed = 499 }, VerdictStart},
		{"no lineage: the ledger tells", func(o *Observation) { ends(499)(o); o.Instance.Lineage = nil }, VerdictStart},
		{"no lineage, unknown timeline", func(o *Observation) {
			older(o)
			o.Instance.Lineage, o.Instance.Timeline = nil, 9
		}, VerdictReclone},
		{"an epoch that never opened", func(o *Observation) { // b claimed 4, promoted to 3, died
			older(o)
			o.Instance.Timeline, o.Instance.History = 3, replication.History{{Timeline: 1, LSN: 250}}
			o.Instance.Lineage = &Lineage{SystemID: "sys", Epoch: 3, Primary: "b", Chain: o.Store.Record.Chain[:1]}
			o.Store.Record.Epoch, o.Store.Record.Chain = 4, []Branch{{0, 1, 0, ""}, {4, 5, 300, "a"}}
		}, VerdictRewind},
		{"an epoch that never opened, same number", func(o *Observation) {
			older(o)
			o.Instance.Timeline, o.Instance.History = 5, replication.History{{Timeline: 1, LSN: 300}}
			o.Instance.Lineage = &Lineage{SystemID: "sys", Epoch: 3, Primary: "b", Chain: o.Store.Record.Chain[:1]}
			o.Store.Record.Epoch, o.Store.Record.Chain = 4, []Branch{{0, 1, 0, ""}, {4, 5, 300, "a"}}
		}, VerdictReclone},
		{"same number, another switch point", func(o *Observation) {
			older(o)
			o.Instance.History = replication.History{{Timeline: 1, LSN: 299}}
		}, VerdictReclone},
		{"same timeline, past the primary", func(o *Observation) {
			o.Instance.Follows = ""
			o.Instance.Rejoin = &RejoinFacts{Epoch: 5, Source: "a", SystemID: "sys", Timeline: 6, Flush: 899}
		}, VerdictReclone},
		{"the source is of another system", func(o *Observation) {
			o.Instance.Rejoin = &RejoinFacts{Epoch: 5, Source: "a", SystemID: "x"}
		}, VerdictRefuse},
		{"a rewind broke off", func(o *Observation) { o.Instance.RewindFailed = true }, VerdictReclone},
		{"not ahead of the claimer", func(o *Observation) {
			r := o.Store.Record
			r.Epoch, r.Primary, r.Open, r.ClaimLSN = 6, "b", false, 900
		}, VerdictStart},
		{"ahead of the claimer", func(o *Observation) {
			r := o.Store.Record
			r.Epoch, r.Primary, r.Open, r.ClaimLSN = 6, "b", false, 899
		}, VerdictWait},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := standby()
			c.change(&o)
			if v := Rejoin(o); v.Kind != c.want {
				t.Errorf("got %s (%s), want %s", v.Kind, v.Why, c.want)
			}
		})
	}
}

// TestReturn is what a returning node does with its verdict.
func TestReturn(t *testing.T) {
	diverged := func(o *Observation) {
		o.Store.Record.Sync.Voters = []nodeID{"b"}
		in := &o.Instance
		in.Timeline, in.History = 5, replication.History{{Timeline: 1, LSN: 300}}
		in.Lineage = &Lineage{SystemID: "sys", Epoch: 4, Primary: "c", Chain: o.Store.Record.Chain[:2]}
		in.Follows, in.ReceiverAlive, in.Streaming, in.End, in.Replayed = "", false, false, 600, 600
	}
	facts := &RejoinFacts{Epoch: 5, Source: "a", SystemID: "sys", Timeline: 6, Flush: 900, Checkpointed: true}
	for _, c := range []struct {
		name   string
		change func(o *Observation)
		want   PostgresKind
	}{
		{"runs: stopped first", func(*Observation) {}, PostgresStopFast},
		{"still a voter: its copy counts", func(o *Observation) { o.Store.Record.Sync.Voters = []nodeID{"b", "c"} }, PostgresLeave},
		{"stopped, end not known: read", func(o *Observation) {
			o.Instance.Process, o.Instance.Clean, o.Instance.End = ProcessStopped, true, 0
		}, PostgresReadEnd},
		{"crashed, end not known: started frozen", func(o *Observation) {
			o.Instance.Process, o.Instance.End = ProcessStopped, 0
		}, PostgresStart},
		{"stopped: ask the source", func(o *Observation) { o.Instance.Process = ProcessStopped }, PostgresInspect},
		{"stopped: rewind", func(o *Observation) { o.Instance.Process, o.Instance.Rejoin = ProcessStopped, facts }, PostgresRewind},
		{"another is being copied: wait", func(o *Observation) {
			o.Instance.Process, o.Instance.Rejoin = ProcessStopped, facts
			o.Store.Nodes[1].State = "rewinding"
		}, PostgresLeave},
		{"rewind failed for good: reclone", func(o *Observation) {
			o.Instance.Process, o.Instance.Rejoin, o.Instance.RewindFailed = ProcessStopped, facts, true
		}, PostgresReclone},
		{"no open primary: nothing is destroyed", func(o *Observation) {
			o.Instance.Process, o.Instance.Rejoin, o.Store.Record.Open = ProcessStopped, facts, false
		}, PostgresStart},
		{"copied: start at the source", func(o *Observation) {
			o.Instance.Process, o.Instance.End = ProcessStopped, 0
			o.Instance.Lineage = &Lineage{SystemID: "sys", Epoch: 5, Primary: "a", Copied: true, Chain: o.Store.Record.Chain}
		}, PostgresStart},
		{"copied for an epoch that is over: again", func(o *Observation) {
			o.Instance.Process, o.Instance.End = ProcessStopped, 0
			o.Instance.Lineage.Copied = true
		}, PostgresReclone},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := standby()
			diverged(&o)
			c.change(&o)
			if d := Decide(o); d.Postgres.Kind != c.want {
				t.Errorf("got %s (%s), want %s", d.Postgres.Kind, d.Why, c.want)
			}
		})
	}
}

func TestHandoff(t *testing.T) {
	for _, c := range []struct {
		name   string
		phase  HandoffPhase
		change func(o *Observation)
		next   HandoffPhase // written; empty: called off; "-": nothing written
		move   PostgresKind
	}{
		{"prepare: a checkpoint", HandoffPrepare, func(*Observation) {}, "-", PostgresCheckpoint},
		{"prepared: drain", HandoffPrepare, func(o *Observation) { o.Instance.StopCheckpoint = true }, HandoffDrain, PostgresLeave},
		{"candidate gone: called off", HandoffPrepare, func(o *Observation) { o.Store.Nodes = o.Store.Nodes[:2] }, "", PostgresLeave},
		{"deadline passed: called off", HandoffPrepare, func(o *Observation) { o.Store.HandoffSince = at(-100) }, "", PostgresLeave},
		{"drain: a proxy has not answered", HandoffDrain, func(o *Observation) { o.Store.Proxies[0].HandoffID = "" }, "-", PostgresLeave},
		{"drain: a transaction is open", HandoffDrain, func(o *Observation) { o.Store.Proxies[0].OpenTx = 1 }, "-", PostgresLeave},
		{"drained: stop", HandoffDrain, func(*Observation) {}, HandoffStop, PostgresLeave},
		{"drain timeout: called off", HandoffDrain, func(o *Observation) { o.Store.Proxies[0].OpenTx, o.Store.PhaseSince = 1, at(0) }, "", PostgresLeave},
		{"drain timeout: cancel", HandoffDrain, func(o *Observation) {
			o.Store.Proxies[0].OpenTx, o.Store.PhaseSince, o.Store.Record.Handoff.CancelOpen = 1, at(0), true
		}, HandoffCancel, PostgresLeave},
		{"cancelled: stop", HandoffCancel, func(*Observation) {}, HandoffStop, PostgresLeave},
		{"stop", HandoffStop, func(*Observation) {}, "-", PostgresStopFast},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := primary()
			o.Store.Record.Handoff = &Handoff{ID: "h", From: "a", To: "c", Phase: c.phase, DrainTimeout: 5e9, Deadline: 60e9}
			o.Store.HandoffSince, o.Store.PhaseSince = at(9), at(9)
			o.Store.Proxies = []ProxyReport{{ID: "p", HandoffID: "h"}}
			c.change(&o)
			d := Decide(o)
			got := HandoffPhase("-")
			if d.Lease.Kind == LeaseWrite {
				got = ""
				if h := d.Lease.Record.Handoff; h != nil {
					got = h.Phase
				}
			}
			if got != c.next || d.Postgres.Kind != c.move {
				t.Errorf("got phase %q, %s (%s), want %q, %s", got, d.Postgres.Kind, d.Why, c.next, c.move)
			}
		})
	}
	o := primary() // stopped cleanly: released to the candidate alone
	o.Store.Record.Handoff = &Handoff{ID: "h", From: "a", To: "c", Phase: HandoffStop, Deadline: 60e9}
	o.Instance.Process, o.Instance.Clean = ProcessStopped, true
	if d := Decide(o); d.Lease.Kind != LeaseRelease || d.Lease.Beat.Release.To != "c" || d.Lease.Beat.Release.Kind != ReleaseClean {
		t.Errorf("got %+v (%s), want a clean release to c", d.Lease, d.Why)
	}
}
