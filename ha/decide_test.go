package ha

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walgate/walgate/replication"
)

// at is an instant that many seconds after a fixed one.
func at(seconds float64) replication.Instant {
	return replication.Instant(1000*time.Second) + replication.Instant(seconds*float64(time.Second))
}

// record3 is a record of three members: a leads epoch 5 on timeline 6, open, b and c vote.
func record3() *Record {
	return &Record{
		Version: 9, Cluster: "t", SystemID: "sys", Epoch: 5, Primary: "a", Timeline: 6, ForkLSN: 500, Open: true,
		Claims:   []Claimed{{1, "a"}, {2, "b"}, {3, "b"}, {4, "a"}, {5, "a"}},
		Chain:    []Branch{{0, 1, 0, ""}, {4, 5, 300, "a"}, {5, 6, 500, "a"}},
		Members:  []Member{{Name: "a", Host: "h", Port: 1}, {Name: "b", Host: "h", Port: 2}, {Name: "c", Host: "h", Port: 3}},
		Sync:     Sync{Mode: SyncQuorum, Quorum: 1, Voters: []nodeID{"b", "c"}},
		Settings: Settings{TTL: 5 * time.Second, MaximumLag: 100, OnCrash: "failover", ColdStartWait: time.Minute},
		Last:     &Failover{Epoch: 5, From: "b", To: "a"},
	}
}

// standby is what c sees as a healthy standby of a at time 10.
func standby() Observation {
	rec := record3()
	return Observation{
		Now: at(10), Self: rec.Members[2], Nonce: "c1", Timing: DefaultTiming(), Rules: AllRules(),
		Store: Store{
			Known: true, ReadAt: at(9.9), Record: rec, RecordRev: 50,
			Beat:    &Beat{Epoch: 5, Holder: "a", Nonce: "a1", N: 7, Origin: 5, Timeline: 6, Flush: 900, TTL: 5 * time.Second},
			BeatRev: 60, BeatSince: at(9.5), EpochSince: at(0), VotesSince: at(0),
			Nodes: []NodeReport{{Name: "a", State: "running"}, {Name: "b", State: "streaming", Timeline: 6}, {Name: "c"}},
		},
		Lease: Lease{NextN: 1},
		Instance: Instance{
			At: at(9.95), Directory: DirectoryPresent, Process: ProcessRunning, GuardAlive: true, SystemID: "sys", Timeline: 6,
			History: replication.History{{Timeline: 1, LSN: 300}, {Timeline: 5, LSN: 500}}, End: 900, InRecovery: true,
			Received: 900, Replayed: 900, ReplayComplete: true, Follows: "a", ReceiverAlive: true, Streaming: true,
			Lineage: &Lineage{SystemID: "sys", Epoch: 5, Primary: "a", Chain: rec.Chain},
		},
	}
}

// frozen is standby after a's beat has run out: c has frozen, and b and c have voted.
func frozen() Observation {
	o := standby()
	o.Now, o.Store.ReadAt, o.Store.VotesSince = at(20), at(19.9), at(19)
	o.Instance.At, o.Instance.Follows, o.Instance.ReceiverAlive, o.Instance.Streaming = at(19.95), "", false, false
	o.Lease.VoteRisk = 6
	o.Store.Votes = []VersionedVote{
		{Vote{Epoch: 6, Node: "b", Origin: 5, Timeline: 6, LSN: 900}, 71},
		{Vote{Epoch: 6, Node: "c", Origin: 5, Timeline: 6, LSN: 900}, 72},
	}
	return o
}

// primary is what a sees as primary at time 10.
func primary() Observation {
	o := standby()
	o.Self, o.Nonce = o.Store.Record.Members[0], "a1"
	o.Lease = Lease{Nonce: "a1", Epoch: 5, SentAt: at(9.6), N: 7, NextN: 8}
	in := &o.Instance
	in.InRecovery, in.Follows, in.ReceiverAlive, in.Streaming = false, "", false, false
	in.Names, in.NamesInForce, in.NamesFloor = SyncNames{1, []nodeID{"b", "c"}}, true, 600
	in.Standbys = []Standby{{Name: "b", Streaming: true, Flush: 900}, {Name: "c", Streaming: true, Flush: 900}}
	in.Slots, in.Checkpointed, in.EndOfRecovery = []nodeID{"b", "c"}, true, 501
	in.StandbysSince = at(0)
	return o
}

type decideCase struct {
	name     string
	from     func() Observation
	change   func(o *Observation)
	lease    LeaseKind
	postgres PostgresKind
	door     bool
	check    func(t *testing.T, d Decision)
}

func TestDecide(t *testing.T) {
	none := func(*Observation) {}
	cases := []decideCase{
		{"nothing read yet", standby, func(o *Observation) { o.Store = Store{} }, LeaseKeep, PostgresLeave, false, nil},
		// Bootstrap.
		{"empty store, no directory: init lock", standby, func(o *Observation) {
			o.Store.Record, o.Store.Beat = nil, nil
			o.Instance = Instance{Directory: DirectoryAbsent, Process: ProcessStopped}
		}, LeaseTakeInit, PostgresLeave, false, nil},
		{"empty store, my lock: initdb", standby, func(o *Observation) {
			o.Store.Record, o.Store.Beat, o.Store.InitHolder = nil, nil, "c"
			o.Instance = Instance{Directory: DirectoryEmpty, Process: ProcessStopped}
		}, LeaseKeep, PostgresInitdb, false, nil},
		{"empty store, fresh directory: record", standby, func(o *Observation) {
			o.Store.Record, o.Store.Beat, o.Store.InitHolder = nil, nil, "c"
			o.Instance = Instance{Directory: DirectoryPresent, Fresh: true, SystemID: "new", Process: ProcessStopped}
		}, LeaseBootstrap, PostgresLeave, false, nil},
		{"empty store, full directory: refused", standby, func(o *Observation) {
			o.Store.Record, o.Store.Beat, o.Store.InitHolder = nil, nil, "c"
			o.Instance.Process = ProcessStopped
		}, LeaseKeep, PostgresLeave, false, nil},
		{"other system: never touched", standby, func(o *Observation) {
			o.Instance.SystemID, o.Instance.Process = "other", ProcessStopped
		}, LeaseKeep, PostgresLeave, false, nil},
		{"no directory: clone the standby", standby, func(o *Observation) {
			o.Instance = Instance{Directory: DirectoryAbsent, Process: ProcessStopped}
		}, LeaseKeep, PostgresClone, false, func(t *testing.T, d Decision) {
			if d.Postgres.Source != "b" || !d.Postgres.Lineage.Copied {
				t.Errorf("clone from %s, lineage %+v", d.Postgres.Source, d.Postgres.Lineage)
			}
		}},
		{"no directory, another copies: wait", standby, func(o *Observation) {
			o.Instance = Instance{Directory: DirectoryAbsent, Process: ProcessStopped}
			o.Store.Nodes[1].State = "cloning"
		}, LeaseKeep, PostgresLeave, false, nil},
		{"not a member yet: join", standby, func(o *Observation) {
			o.Store.Record.Members = o.Store.Record.Members[:2]
		}, LeaseJoin, PostgresLeave, false, nil},
		// Steady.
		{"steady standby", standby, none, LeaseKeep, PostgresLeave, false, nil},
		{"steady primary", primary, none, LeaseKeep, PostgresLeave, true, func(t *testing.T, d Decision) {
			if d.DoorUntil != at(12.6) || d.KillAt != at(13.6) {
				t.Errorf("door until %v, kill at %v", d.DoorUntil, d.KillAt)
			}
		}},
		{"renewal is due", primary, func(o *Observation) { o.Lease.SentAt = at(9.2) }, LeaseRenew, PostgresLeave, true, nil},
		// Fencing.
		{"F0: the door is shut", primary, func(o *Observation) { o.Lease.SentAt = at(6.9) }, LeaseRenew, PostgresLeave, false, nil},
		{"F1: killed", primary, func(o *Observation) { o.Lease.SentAt = at(6.2) }, LeaseKeep, PostgresKillWhole, false, nil},
		{"superseded: killed, guard not disarmed", primary, func(o *Observation) {
			o.Store.Record.Epoch, o.Store.Record.Primary = 6, "b"
		}, LeaseKeep, PostgresKillWhole, false, func(t *testing.T, d Decision) {
			if d.KillAt == 0 {
				t.Error("the guard is disarmed while PostgreSQL may take writes")
			}
		}},
		{"lease of another incarnation: killed", primary, func(o *Observation) { o.Lease = Lease{NextN: 1} }, LeaseKeep, PostgresKillWhole, false, nil},
		{"remains of a dead postmaster: killed", primary, func(o *Observation) { o.Instance.Process = ProcessRemains }, LeaseKeep, PostgresKillWhole, false, nil},
		{"guard dead: killed", primary, func(o *Observation) { o.Instance.GuardAlive = false }, LeaseKeep, PostgresKillWhole, false, nil},
		{"hang: killed", primary, func(o *Observation) { o.Instance.ProbeFailures = 3 }, LeaseKeep, PostgresKillWhole, false, nil},
		{"no answers, but clients are served", primary, func(o *Observation) {
			o.Instance.ProbeFailures, o.Instance.StatementAt = 3, at(9.9)
		}, LeaseKeep, PostgresLeave, true, nil},
		{"promotion under way as the lease runs out: killed", primary, func(o *Observation) {
			o.Instance.InRecovery, o.Lease.SentAt = true, at(6.2)
			o.Hands.Postgres.Busy, o.Hands.PostgresMove.Kind = true, PostgresPromote
		}, LeaseKeep, PostgresKillWhole, false, nil},
		{"paused: renewed, not killed", primary, func(o *Observation) {
			o.Store.Record.Paused, o.Lease.SentAt = true, at(1)
		}, LeaseRenew, PostgresLeave, false, nil},
		// The end of a primary.
		{"PostgreSQL died: read its end", primary, func(o *Observation) {
			o.Instance.Process, o.Instance.End = ProcessStopped, 0
		}, LeaseKeep, PostgresReadEnd, false, nil},
		{"PostgreSQL died: release", primary, func(o *Observation) {
			o.Instance.Process = ProcessStopped
		}, LeaseRelease, PostgresLeave, false, func(t *testing.T, d Decision) {
			want := &Release{Kind: ReleaseCrash, Origin: 5, Timeline: 6, LSN: 900}
			if diff := cmp.Diff(want, d.Lease.Beat.Release); diff != "" {
				t.Error(diff)
			}
		}},
		{"PostgreSQL died, on_crash restart: in place", primary, func(o *Observation) {
			o.Instance.Process, o.Store.Record.Settings.OnCrash = ProcessStopped, "restart"
		}, LeaseKeep, PostgresStart, false, nil},
		{"back as standby: a new epoch", primary, func(o *Observation) { o.Instance.InRecovery = true }, LeaseClaim, PostgresLeave, false, nil},
		// Failover.
		{"expired: freeze", standby, func(o *Observation) { o.Now, o.Store.ReadAt = at(20), at(19.9) }, LeaseKeep, PostgresFreeze, false, nil},
		{"store not read for long: goes on streaming", standby, func(o *Observation) { o.Now = at(20) }, LeaseKeep, PostgresLeave, false, nil},
		{"frozen: vote", frozen, func(o *Observation) { o.Store.Votes = o.Store.Votes[:1] }, LeaseVote, PostgresLeave, false, func(t *testing.T, d Decision) {
			if d.Lease.VoteRev != 0 || d.Lease.Vote.LSN != 900 || d.Lease.Vote.Origin != 5 {
				t.Errorf("vote %+v", d.Lease)
			}
		}},
		{"facts older than the freeze: no vote", frozen, func(o *Observation) {
			o.Store.Votes, o.Hands.PostgresEnded = nil, at(19.99)
		}, LeaseKeep, PostgresLeave, false, nil},
		{"the beat goes on: the vote is taken back first", frozen, func(o *Observation) { o.Store.BeatSince = at(19) }, LeaseUnvote, PostgresLeave, false, nil},
		{"vote taken back: follow", frozen, func(o *Observation) {
			o.Store.BeatSince, o.Lease.VoteRisk = at(19), 0
		}, LeaseKeep, PostgresFollow, false, nil},
		{"another has claimed: follow at once", frozen, func(o *Observation) {
			r := o.Store.Record
			r.Epoch, r.Primary, r.Open, r.ClaimLSN = 6, "b", false, 900
			o.Store.Beat, o.Store.BeatSince, o.Store.Votes = &Beat{Epoch: 6, Holder: "b"}, at(19), nil
		}, LeaseKeep, PostgresFollow, false, nil},
		{"ahead of the claimer: wait for the door", frozen, func(o *Observation) {
			r := o.Store.Record
			r.Epoch, r.Primary, r.Open, r.ClaimLSN = 6, "b", false, 890
			o.Store.Beat, o.Store.BeatSince, o.Store.Votes = &Beat{Epoch: 6, Holder: "b"}, at(19), nil
		}, LeaseKeep, PostgresLeave, false, nil},
		{"claim", frozen, none, LeaseClaim, PostgresLeave, false, func(t *testing.T, d Decision) {
			r := d.Lease.Record
			if r.Epoch != 6 || r.Primary != "c" || r.Open || !slices.Equal(r.Sync.Voters, []nodeID{"a", "b"}) || len(d.Lease.Counted) != 2 {
				t.Errorf("claim %+v, counted %v", r, d.Lease.Counted)
			}
		}},
		{"claimed: promote with the names preset", claimer, none, LeaseKeep, PostgresPromote, false, func(t *testing.T, d Decision) {
			if !d.Postgres.Names.equal(SyncNames{1, []nodeID{"a", "b"}}) {
				t.Errorf("names %v", d.Postgres.Names)
			}
		}},
		{"claimed: replay goes on", claimer, func(o *Observation) { o.Instance.ReplayComplete = false }, LeaseKeep, PostgresLeave, false, nil},
		{"claimed: next xid of an earlier time", claimer, func(o *Observation) { o.Instance.CapturedEnd = 800 }, LeaseKeep, PostgresPrepare, false, nil},
		{"promoted: open", claimer, promoted, LeaseOpen, PostgresLeave, false, func(t *testing.T, d Decision) {
			r, e := d.Lease.Record, d.Lease.Entry
			if !r.Open || r.Timeline != 7 || r.ForkLSN != 900 || e.Timeline != 7 || e.NextXID != 77 || e.From != "a" {
				t.Errorf("record %+v, entry %+v", r, e)
			}
		}},
		{"restarted in place: shut until a voter has the end of recovery", claimer, func(o *Observation) {
			promoted(o)
			o.Store.Record.Last.From = "c"
		}, LeaseKeep, PostgresLeave, false, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := c.from()
			c.change(&o)
			d := Decide(o)
			if d.Lease.Kind != c.lease || d.Postgres.Kind != c.postgres || d.Door != c.door {
				t.Errorf("got %s/%s door %v (%s), want %s/%s door %v", d.Lease.Kind, d.Postgres.Kind, d.Door, d.Why, c.lease, c.postgres, c.door)
			} else if c.check != nil {
				c.check(t, d)
			}
			if d.Why == "" {
				t.Error("a decision without its reason")
			}
			if diff := cmp.Diff(d, Decide(o)); diff != "" {
				t.Errorf("the same observation, another decision:\n%s", diff)
			}
		})
	}
}

// claimer is c after its claim of epoch 6, ready to promote.
func claimer() Observation {
	o := frozen()
	r := o.Store.Record
	r.Epoch, r.Primary, r.Open, r.ClaimLSN, r.Sync.Voters = 6, "c", false, 900, []nodeID{"a", "b"}
	r.Last = &Failover{Epoch: 6, From: "a", To: "c"}
	o.Store.Beat = &Beat{Epoch: 6, Holder: "c", Nonce: "c1", N: 1, Origin: 5, Timeline: 6, Flush: 900}
	o.Store.BeatSince, o.Store.EpochSince, o.Store.Votes = at(19.8), at(19.8), nil
	o.Lease = Lease{Nonce: "c1", Epoch: 6, SentAt: at(19.7), N: 1, NextN: 2}
	o.Instance.Slots, o.Instance.CapturedXID, o.Instance.CapturedEnd = []nodeID{"a", "b"}, 77, 900
	return o
}

func promoted(o *Observation) {
	in := &o.Instance
	in.InRecovery, in.Timeline, in.EndOfRecovery, in.End = false, 7, 901, 901
	in.History = append(in.History, replication.Switch{Timeline: 6, LSN: 900})
	in.Lineage = &Lineage{SystemID: "sys", Epoch: 6, Primary: "c", Chain: o.Store.Record.Chain}
	in.Names, in.NamesInForce, in.NamesFloor, in.StandbysSince = SyncNames{1, []nodeID{"a", "b"}}, true, 901, at(19.9)
}

func TestClaimQualifies(t *testing.T) {
	asynchronous := func(o *Observation) { o.Store.Record.Sync = Sync{Mode: SyncOff, Quorum: 1} }
	released := func(r Release) func(*Observation) {
		return func(o *Observation) {
			o.Store.Beat.Release = &r
			o.Store.Votes = o.Store.Votes[1:] // nobody else has voted
			o.Store.Nodes = o.Store.Nodes[2:]
		}
	}
	for _, c := range []struct {
		name   string
		change func(o *Observation)
		rule   string // empty: it does not qualify
	}{
		{"votes of all voters", func(*Observation) {}, "votes"},
		{"paused", func(o *Observation) { o.Store.Record.Paused = true }, ""},
		{"tagged nofailover", func(o *Observation) { o.Store.Record.Members[2].Tags = map[string]string{"nofailover": "true"} }, ""},
		{"other system", func(o *Observation) { o.Instance.SystemID = "other" }, ""},
		{"receiver still there", func(o *Observation) { o.Instance.ReceiverAlive = true }, ""},
		{"beat not expired", func(o *Observation) { o.Store.BeatSince = at(16) }, ""},
		{"the beat promised a longer lease", func(o *Observation) { o.Store.Beat.TTL = 20 * time.Second }, ""},
		{"one voter missing", func(o *Observation) { o.Store.Votes = o.Store.Votes[1:] }, ""},
		{"own vote missing", func(o *Observation) { o.Store.Votes = o.Store.Votes[:1] }, ""},
		{"own vote of another position", func(o *Observation) { o.Store.Votes[1].Vote.LSN = 800 }, ""},
		{"a withdrawn vote does not count", func(o *Observation) { o.Store.Votes[0].Vote.Withdrawn = true }, ""},
		{"a voter is ahead", func(o *Observation) { o.Store.Votes[0].Vote.LSN = 901 }, ""},
		{"a voter is behind", func(o *Observation) { o.Store.Votes[0].Vote.LSN = 899 }, "votes"},
		{"a voter on a later branch is ahead, whatever its position", func(o *Observation) {
			o.Store.Record.Epoch = 6
			o.Store.Record.Open = false
			o.Store.Votes[0].Vote = Vote{Epoch: 7, Node: "b", Origin: 6, Timeline: 7, LSN: 10}
			o.Store.Votes[1].Vote.Epoch = 7
		}, ""},
		{"equal positions: the lower name goes first", func(o *Observation) { o.Store.VotesSince = at(19.9) }, ""},
		{"no voters: only the last holder", func(o *Observation) { o.Store.Record.Sync.Voters = nil }, ""},
		{"k of 2: one vote of two is enough", func(o *Observation) {
			o.Store.Record.Sync.Quorum = 2
			o.Store.Votes = o.Store.Votes[1:]
		}, "votes"},
		{"release held here", released(Release{Kind: ReleaseCrash, Origin: 5, Timeline: 6, LSN: 900}), "release"},
		{"release past what is held here", released(Release{Kind: ReleaseCrash, Origin: 5, Timeline: 6, LSN: 901}), ""},
		{"release reserved for another", func(o *Observation) {
			released(Release{Kind: ReleaseClean, Origin: 5, Timeline: 6, LSN: 900, To: "b"})(o)
			o.Store.Record.Handoff, o.Store.HandoffSince = &Handoff{ID: "h", To: "b", Deadline: time.Minute}, at(15)
		}, ""},
		{"release reserved for another, past its deadline", func(o *Observation) {
			released(Release{Kind: ReleaseClean, Origin: 5, Timeline: 6, LSN: 900, To: "b"})(o)
			o.Store.Record.Handoff, o.Store.HandoffSince = &Handoff{ID: "h", To: "b", Deadline: time.Second}, at(15)
		}, "release"},
		{"asynchronous: close enough, all live have voted", asynchronous, "lag"},
		{"asynchronous: too far behind", func(o *Observation) {
			asynchronous(o)
			o.Store.Beat.Flush = 2000
		}, ""},
		{"asynchronous: too far behind, after the cold start wait", func(o *Observation) {
			asynchronous(o)
			o.Store.Beat.Flush, o.Store.Record.Settings.ColdStartWait = 2000, time.Second
		}, "lag"},
		{"asynchronous: a live node holds more", func(o *Observation) {
			asynchronous(o)
			o.Store.Votes[0].Vote.LSN = 901
		}, ""},
		{"last holder, not expired", func(o *Observation) {
			o.Store.Beat.Holder, o.Store.Record.Primary, o.Store.BeatSince = "c", "c", at(19.9)
			o.Store.Votes = nil
		}, "last holder"},
		{"last holder without the last beat's WAL", func(o *Observation) {
			o.Store.Beat.Holder, o.Store.Record.Primary, o.Store.Beat.Flush = "c", "c", 901
			o.Store.Votes = nil
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := frozen()
			c.change(&o)
			claim, ok := ClaimQualifies(o)
			if ok != (c.rule != "") || ok && claim.Rule != c.rule {
				t.Errorf("got %v %q (%s), want rule %q", ok, claim.Rule, claim.Why, c.rule)
			}
		})
	}
}

func TestTimingValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Timing)
		wrong  string
	}{
		{"default", func(*Timing) {}, ""},
		{"ttl 10", func(t *Timing) { t.TTL, t.Renew, t.RPC, t.Kill, t.Margin = 10e9, 1e9, 2e9, 2e9, 3.5e9 }, ""},
		{"renewal too slow", func(t *Timing) { t.Renew = time.Second }, "over ttl"},
		{"no time to kill", func(t *Timing) { t.Kill = 2 * time.Second }, "over margin"},
		{"guard before the agent", func(t *Timing) { t.KillLead = time.Second }, "not below kill"},
		{"zero", func(t *Timing) { t.Stop = 0 }, "stop is 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			timing := DefaultTiming()
			c.change(&timing)
			err := timing.Validate()
			if (err == nil) != (c.wrong == "") || err != nil && (!strings.Contains(err.Error(), c.wrong) || !errors.Is(err, ErrTiming)) {
				t.Errorf("got %v, want %q", err, c.wrong)
			}
		})
	}
}
