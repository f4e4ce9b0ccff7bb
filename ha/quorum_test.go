package ha

import (
	"slices"
	"testing"
	"time"
)

func TestVotesNeeded(t *testing.T) {
	for _, c := range []struct{ n, k, want int }{{1, 1, 1}, {2, 1, 2}, {3, 1, 3}, {3, 2, 2}, {4, 2, 3}, {1, 2, 1}, {0, 1, 1}} {
		if got := VotesNeeded(c.n, c.k); got != c.want {
			t.Errorf("VotesNeeded(%d, %d) = %d, want %d", c.n, c.k, got, c.want)
		}
		// Any k who acknowledged meet any set of that many voters.
		if c.n >= c.k && VotesNeeded(c.n, c.k)+c.k <= c.n {
			t.Errorf("n %d, k %d: a claim can miss who acknowledged", c.n, c.k)
		}
	}
}

// TestOrderOfChanges walks through the changes of voters and names, step by step.
func TestOrderOfChanges(t *testing.T) {
	ids := func(names ...nodeID) []nodeID { return names }
	for _, c := range []struct {
		name    string
		mode    SyncMode
		voters  []nodeID
		names   []nodeID
		inForce bool
		floor   int // NamesFloor, above the standbys' 900 or not
		stream  []nodeID
		settled bool
		write   []nodeID // voters to write; nil and !nothing: names instead
		set     []nodeID
		move    string // "voters", "names" or ""
	}{
		{"steady", SyncQuorum, ids("b", "c"), ids("b", "c"), true, 800, ids("b", "c"), true, nil, nil, ""},
		{"add: voters first", SyncQuorum, ids("b"), ids("b"), true, 800, ids("b", "c"), true, ids("b", "c"), nil, "voters"},
		{"add: then names", SyncQuorum, ids("b", "c"), ids("b"), true, 800, ids("b", "c"), true, nil, ids("b", "c"), "names"},
		{"lost: it stays a little", SyncQuorum, ids("b", "c"), ids("b", "c"), true, 800, ids("b"), false, nil, nil, ""},
		{"remove: names first", SyncQuorum, ids("b", "c"), ids("b", "c"), true, 800, ids("b"), true, nil, ids("b"), "names"},
		{"remove: voters wait for the floor", SyncQuorum, ids("b", "c"), ids("b"), true, 0, ids("b"), true, nil, nil, ""},
		{"remove: voters wait until it is reached", SyncQuorum, ids("b", "c"), ids("b"), true, 901, ids("b"), true, nil, nil, ""},
		{"remove: then voters", SyncQuorum, ids("b", "c"), ids("b"), true, 900, ids("b"), true, ids("b"), nil, "voters"},
		{"names of unknown effect are set again", SyncQuorum, ids("b", "c"), ids("b"), false, 800, ids("b"), true, nil, ids("b"), "names"},
		{"nobody left: no voters first", SyncQuorum, ids("b"), ids("b"), true, 800, nil, true, nil, nil, "voters"},
		{"nobody left: then no names", SyncQuorum, nil, ids("b"), true, 800, nil, true, nil, nil, "names"},
		{"nobody left, strict: commits wait", SyncStrict, ids("b"), ids("b"), true, 800, nil, false, nil, nil, ""},
		{"strict without names: nobody can acknowledge", SyncStrict, nil, nil, true, 800, nil, true, nil, ids(nobody), "names"},
		{"first back: names first", SyncQuorum, nil, nil, true, 0, ids("b"), true, nil, ids("b"), "names"},
		{"first back: wait for what is there", SyncQuorum, nil, ids("b"), true, 901, ids("b"), true, nil, nil, ""},
		{"first back: then voters", SyncQuorum, nil, ids("b"), true, 900, ids("b"), true, ids("b"), nil, "voters"},
		{"off: voters go first", SyncOff, ids("b"), ids("b"), true, 800, ids("b"), true, nil, nil, "voters"},
		{"off: then names", SyncOff, nil, ids("b"), true, 800, ids("b"), true, nil, nil, "names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := primary()
			o.Now, o.Lease.SentAt = at(100), at(99.9)
			o.Store.Record.Sync = Sync{Mode: c.mode, Quorum: 1, Voters: c.voters}
			in := &o.Instance
			in.Names, in.NamesInForce, in.NamesFloor = SyncNames{1, c.names}, c.inForce, lsn(c.floor)
			in.Standbys, in.StandbysSince = nil, at(99)
			if c.settled {
				in.StandbysSince = at(100).Add(-o.Timing.Degrade - time.Millisecond)
			}
			for _, n := range c.stream {
				in.Standbys = append(in.Standbys, Standby{Name: n, Streaming: true, Flush: 900})
			}
			d := Decide(o)
			move := ""
			switch {
			case d.Lease.Kind == LeaseWrite:
				move = "voters"
				if !slices.Equal(d.Lease.Record.Sync.Voters, c.write) {
					t.Errorf("voters %v, want %v", d.Lease.Record.Sync.Voters, c.write)
				}
			case d.Postgres.Kind == PostgresNames:
				move = "names"
				if !slices.Equal(d.Postgres.Names.Names, c.set) {
					t.Errorf("names %v, want %v", d.Postgres.Names, c.set)
				}
			}
			if move != c.move {
				t.Errorf("moved %q, want %q (%s)", move, c.move, d.Why)
			}
		})
	}
}

// TestNamesWaitForOwnWrite: while a write of voters may yet come to pass, names do not change; a write that changes
// nothing makes sure that it can't.
func TestNamesWaitForOwnWrite(t *testing.T) {
	o := primary()
	o.Store.Record.Sync.Voters = nil
	o.Instance.Standbys = nil
	o.Lease.RecordRisk = o.Store.RecordRev
	d := Decide(o)
	if d.Postgres.Kind != PostgresLeave || d.Lease.Kind != LeaseWrite {
		t.Errorf("got %s/%s (%s), want a write and no names", d.Lease.Kind, d.Postgres.Kind, d.Why)
	}
	o.Lease.RecordRisk--
	if d = Decide(o); d.Postgres.Kind != PostgresNames {
		t.Errorf("got %s (%s), want names", d.Postgres.Kind, d.Why)
	}
}
