package router

import (
	"strings"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

const now = replication.Instant(1000 * time.Second)

func cluster() (replication.View, replication.StatusBoard) {
	view := replication.View{Epoch: 3, Primary: "a", Open: true, Timeline: 2, ForkLSN: 500,
		Members: []replication.Member{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	standby := func(name replication.NodeID) replication.Status {
		return replication.Status{Node: name, Role: replication.RoleStandby, Reachable: true, Streaming: true,
			AskedAt: now, At: now, Life: 7, Timeline: 2, Replayed: 1000}
	}
	board := replication.StatusBoard{Nodes: map[replication.NodeID]replication.Status{
		"a": {Node: "a", Role: replication.RolePrimary, Reachable: true, At: now, Timeline: 2, Replayed: 1000},
		"b": standby("b"), "c": standby("c")},
		Primary: replication.Sample{Epoch: 3, SentAt: now, Flush: 1000}}
	return view, board
}

func TestPick(t *testing.T) {
	change := func(name replication.NodeID, f func(*replication.Status)) func(*Input) {
		return func(in *Input) {
			st := in.Board.Nodes[name]
			f(&st)
			in.Board.Nodes[name] = st
		}
	}
	noB := change("b", func(s *replication.Status) { s.Reachable = false })
	noC := change("c", func(s *replication.Status) { s.Reachable = false })
	cases := []struct {
		name string
		do   []func(*Input)
		want string // one of these letters
	}{
		{"a write", []func(*Input){func(in *Input) { in.Kind = Write }}, "a"},
		{"a read", nil, "bc"},
		{"less to do", []func(*Input){func(in *Input) { in.Members = standing(0, 9, 4) }}, "c"},
		{"target primary", []func(*Input){func(in *Input) { in.Target = TargetPrimary }}, "a"},
		{"a write with target replica", []func(*Input){func(in *Input) { in.Target, in.Kind = TargetReplica, Write }}, "bc"},
		{"sticky", []func(*Input){func(in *Input) { in.Requirement.Sticky, in.Requirement.StickyLife = "c", 7 }}, "c"},
		{"sticky was restarted", []func(*Input){noC, func(in *Input) {
			in.Requirement = Requirement{Sticky: "b", StickyLife: 6, SwitchUnknown: true}
		}}, "a"},
		{"sticky is gone, the other is known to be as far", []func(*Input){noC, func(in *Input) {
			in.Requirement = Requirement{Sticky: "c", StickyLife: 7, SwitchToken: 1000}
		}}, "b"},
		{"sticky is gone, the other is behind", []func(*Input){noC, func(in *Input) {
			in.Requirement = Requirement{Sticky: "c", StickyLife: 7, SwitchToken: 1001}
		}}, "a"},
		{"no standby has the token", []func(*Input){func(in *Input) { in.Requirement.Token = 1001 }}, "a"},
		{"one has the token", []func(*Input){func(in *Input) { in.Requirement.Token = 1001 },
			change("c", func(s *replication.Status) { s.Replayed = 1001 })}, "c"},
		{"old status", []func(*Input){noC, change("b", func(s *replication.Status) { s.At = now - replication.Instant(time.Minute) })}, "a"},
		{"another timeline", []func(*Input){noC, change("b", func(s *replication.Status) { s.Timeline = 1 })}, "a"},
		{"not streaming", []func(*Input){noC, change("b", func(s *replication.Status) { s.Streaming = false })}, "a"},
		{"not streaming, but there is no open primary", []func(*Input){noC,
			change("b", func(s *replication.Status) { s.Streaming = false }), func(in *Input) { in.View.Open = false }}, "b"},
		{"too many bytes behind", []func(*Input){noC, change("b", func(s *replication.Status) { s.LagBytes = 101 }),
			func(in *Input) { in.Requirement.Bounded = true }}, "a"},
		{"too many bytes behind for bounded only", []func(*Input){noC, change("b", func(s *replication.Status) { s.LagBytes = 101 })}, "b"},
		{"lag not known", []func(*Input){noC, change("b", func(s *replication.Status) { s.Lag = -1 }),
			func(in *Input) { in.Requirement.Bounded = true }}, "a"},
		{"promoted meanwhile", []func(*Input){noC, change("b", func(s *replication.Status) { s.Role = replication.RolePrimary })}, "a"},
		{"tagged", []func(*Input){noC, func(in *Input) {
			in.View.Members[1].Tags = map[string]string{TagNoLoadBalance: "true"}
			in.Members = traits(in.View)
		}}, "a"},
		{"tagged, and asked for by another tag", []func(*Input){noC, func(in *Input) {
			in.View.Members[1].Tags = map[string]string{TagNoLoadBalance: "true", "analytics": "true"}
			in.Members, in.Tag = traits(in.View), "analytics"
		}}, "b"},
		{"a tag that another has", []func(*Input){func(in *Input) {
			in.View.Members[2].Tags = map[string]string{"analytics": "yes"}
			in.Tag = "analytics"
		}}, "c"},
		{"a tag that nobody has", []func(*Input){func(in *Input) { in.Tag = "analytics" }}, "bc"},
		{"the own zone", []func(*Input){func(in *Input) {
			in.View.Members[1].Tags = map[string]string{TagZone: "east"}
			in.Members, in.Balance.Zone = traits(in.View), "east"
			in.Members[1].Outstanding = 50
		}}, "b"},
		{"nobody in the own zone", []func(*Input){func(in *Input) { in.Balance.Zone = "west" }}, "bc"},
		{"slower", []func(*Input){func(in *Input) {
			in.Members = standing(0, 0, 0)
			in.Members[1].Latency, in.Members[2].Latency = 9*time.Millisecond, 3*time.Millisecond
		}}, "c"},
		{"about as fast", []func(*Input){func(in *Input) {
			in.Members = standing(0, 0, 0)
			in.Members[1].Latency, in.Members[2].Latency = 4*time.Millisecond, 3*time.Millisecond
		}}, "bc"},
		{"sticky, but much slower", []func(*Input){func(in *Input) {
			in.Requirement.Sticky, in.Requirement.StickyLife, in.Requirement.SwitchToken = "b", 7, 1000
			in.Members = standing(0, 20, 1)
		}}, "c"},
		{"sticky, much slower, and the other is not known to be as far", []func(*Input){func(in *Input) {
			in.Requirement.Sticky, in.Requirement.StickyLife, in.Requirement.SwitchUnknown = "b", 7, true
			in.Members = standing(0, 20, 1)
		}}, "b"},
		{"ejected", []func(*Input){func(in *Input) { in.Members = standing(0, 0, 0); in.Members[1].EjectedUntil = now + 1 }}, "c"},
		{"no longer ejected", []func(*Input){func(in *Input) { in.Members = standing(0, 0, 0); in.Members[1].EjectedUntil = now }}, "bc"},
		{"no longer ejected, and coming back slowly", []func(*Input){func(in *Input) {
			in.Members = standing(0, 1, 1)
			in.Members[1].EjectedUntil, in.Balance.SlowStart = now, time.Minute
		}}, "c"},
		{"never all ejected", []func(*Input){func(in *Input) {
			in.Members = standing(0, 0, 0)
			in.Members[1].EjectedUntil, in.Members[2].EjectedUntil = now+1, now+1
		}}, "bc"},
		{"has failed the statement", []func(*Input){func(in *Input) { in.Tried = []replication.NodeID{"b"} }}, "c"},
		{"has failed it, though sticky", []func(*Input){func(in *Input) {
			in.Requirement.Sticky, in.Requirement.StickyLife, in.Requirement.SwitchToken = "b", 7, 1000
			in.Tried = []replication.NodeID{"b"}
		}}, "c"},
		{"ejected, but has not failed it", []func(*Input){func(in *Input) {
			in.Members = standing(0, 0, 0)
			in.Members[1].EjectedUntil, in.Tried = now+1, []replication.NodeID{"c"}
		}}, "b"},
		{"all have failed it", []func(*Input){func(in *Input) { in.Tried = []replication.NodeID{"b", "c"} }}, "a"},
		{"all have failed it, and there is no primary", []func(*Input){func(in *Input) {
			in.Tried, in.View.Open = []replication.NodeID{"b", "c"}, false
		}}, "bc"},
		{"all have failed it, and the primary shall be spared", []func(*Input){func(in *Input) {
			in.Tried, in.Fallback = []replication.NodeID{"b", "c"}, FallbackError
		}}, "bc"},
		{"just back", []func(*Input){noC, func(in *Input) { in.Members = standing(0, 0, 0); in.Members[1].Away.Out = true }}, "a"},
		{"just back, and there is no primary", []func(*Input){noC, func(in *Input) {
			in.View.Open = false
			in.Members = standing(0, 0, 0)
			in.Members[1].Away.Out = true
		}}, "b"},
		{"was behind, for an eventual read", []func(*Input){noC, func(in *Input) { in.Members = standing(0, 0, 0); in.Members[1].Behind.Out = true }}, "b"},
		{"was behind", []func(*Input){noC, func(in *Input) {
			in.Members = standing(0, 0, 0)
			in.Members[1].Behind.Out, in.Requirement.Bounded = true, true
		}}, "a"},
		{"all reads are the primary's share", []func(*Input){func(in *Input) { in.Balance.PrimaryShare = 100 }}, "a"},
		{"but not those for replicas", []func(*Input){func(in *Input) { in.Balance.PrimaryShare, in.Target = 100, TargetReplica }}, "bc"},
		{"a share", []func(*Input){func(in *Input) { in.Balance.PrimaryShare = 50 }}, "abc"},
		{"an error rather than the primary", []func(*Input){func(in *Input) { in.Fallback, in.Requirement.Token = FallbackError, 1001 }}, ""},
		{"waits for the token", []func(*Input){func(in *Input) { in.Wait, in.Requirement.Token = true, 1001 }}, ""},
		{"does not wait for what time does not cure", []func(*Input){noC, func(in *Input) { in.Wait = true },
			change("b", func(s *replication.Status) { s.Timeline = 1 })}, "a"},
		{"waits for a sample", []func(*Input){func(in *Input) { in.Wait, in.Requirement.PrimaryOnly, in.Requirement.Why = true, true, "x" }}, ""},
		{"does not wait for a sample that helps no standby", []func(*Input){noB, noC, func(in *Input) {
			in.Wait, in.Requirement.PrimaryOnly, in.Requirement.Why = true, true, "x"
		}}, "a"},
		{"a younger connection", []func(*Input){noC, func(in *Input) {
			in.Proven, in.ProvenAfter, in.Requirement.Token = "b", now+1, 500
		}}, "a"},
		{"a younger connection, and nothing to prove", []func(*Input){noC, func(in *Input) { in.Proven, in.ProvenAfter = "b", now+1 }}, "b"},
		{"no younger any more", []func(*Input){noC, func(in *Input) {
			in.Proven, in.ProvenAfter, in.Requirement.Token = "b", now, 500
		}}, "b"},
		{"nobody", []func(*Input){func(in *Input) { in.View.Open = false; in.Requirement.PrimaryOnly = true }}, ""},
		{"drained", []func(*Input){func(in *Input) { in.Kind = Write; in.View.Handoff.Draining = true }}, ""},
		{"a write with target replica never falls back", []func(*Input){noC, func(in *Input) { in.Target, in.Kind = TargetReplica, Write },
			change("b", func(s *replication.Status) { s.Reachable = false })}, ""},
		{"no members", []func(*Input){func(in *Input) { in.View.Members = nil }}, "a"},
	}
	for _, c := range cases {
		view, board := cluster()
		in := Input{View: &view, Board: &board, Now: now, Kind: Read, Limits: Limits{MaxLagBytes: 100, MaxLag: time.Second, MaxAge: 2 * time.Second}}
		for _, do := range c.do {
			do(&in)
		}
		for in.Seed = range uint32(50) {
			got := Pick(in)
			if got.Why == "" || (got.Node == "") != (c.want == "") || !strings.Contains(c.want, string(got.Node)) {
				t.Errorf("%s: got %+v, want one of %q", c.name, got, c.want)
				break
			}
		}
	}
	view, board := cluster()
	members := standing(0, 3, 4)
	if n := testing.AllocsPerRun(100, func() {
		Pick(Input{View: &view, Board: &board, Now: now, Kind: Read, Members: members, Tag: "x", Balance: Balance{Zone: "y", PrimaryShare: 1}})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReadYourWrites(t *testing.T) {
	view, board := cluster()
	var c Consistency
	if r := c.Require(LevelSession, now, &view, &board); r.PrimaryOnly || r.Token != 0 {
		t.Fatalf("a fresh session: %+v", r)
	}
	c.Touched(now+1, false)
	if r := c.Require(LevelSession, now+2, &view, &board); !r.PrimaryOnly {
		t.Fatalf("the sample is older than the write: %+v", r)
	}
	board.Primary = replication.Sample{Epoch: 3, SentAt: now + 1, Flush: 1100}
	if r := c.Require(LevelSession, now+2, &view, &board); r.PrimaryOnly || r.Token != 1100 {
		t.Fatalf("the sample covers the write: %+v", r)
	}
	copied := Consistency{touched: now + 1}
	board.Earlier = []replication.Sample{{Epoch: 3, SentAt: now, Flush: 1000}, board.Primary}
	board.Primary = replication.Sample{Epoch: 3, SentAt: now + 9, Flush: 1200}
	if r := copied.Require(LevelSession, now+9, &view, &board); r.Token != 1100 {
		t.Fatalf("the oldest sample that covers the write is enough: %+v", r)
	}
	if r := c.Require(LevelSession, now+9, &view, &board); r.Token != 1100 {
		t.Fatalf("the token should stay the first that covers the write: %+v", r)
	}
	if r := c.Require(LevelStrong, now+9, &view, &board); r.PrimaryOnly || r.Token != 1200 {
		t.Fatalf("strong: %+v", r)
	}
	if r := c.Require(LevelStrong, now+10, &view, &board); !r.PrimaryOnly {
		t.Fatalf("strong without a sample: %+v", r)
	}
	board.Primary.Insert = 1250
	c.Touched(now+9, true)
	if r := c.Require(LevelSession, now+9, &view, &board); r.Token != 1250 {
		t.Fatalf("a commit that does not wait for the flush: %+v", r)
	}
	c.Touched(now+9, false)
	if r := c.Require(LevelSession, now+9, &view, &board); r.Token != 1250 {
		t.Fatalf("the token went back: %+v", r)
	}
	if r := c.Require(LevelEventual, now+10, &view, &board); r != (Requirement{}) {
		t.Fatalf("eventual: %+v", r)
	}
}

func TestMonotonicReads(t *testing.T) {
	view, board := cluster()
	var c Consistency
	c.ReadFrom(board.Status("b"), now+5)
	r := c.Require(LevelSession, now+6, &view, &board)
	if r.Sticky != "b" || r.StickyLife != 7 || !r.SwitchUnknown {
		t.Fatalf("nothing was learned of b after the read: %+v", r)
	}
	board.Primary = replication.Sample{Epoch: 3, SentAt: now + 6, Flush: 1300}
	if r = c.Require(LevelSession, now+6, &view, &board); r.SwitchUnknown || r.SwitchToken != 1300 {
		t.Fatalf("the primary's flush position covers what b showed: %+v", r)
	}
	st := board.Nodes["b"]
	st.AskedAt, st.Replayed = now+6, 1050
	board.Nodes["b"] = st
	if r = c.Require(LevelSession, now+6, &view, &board); r.SwitchUnknown || r.SwitchToken != 1050 {
		t.Fatalf("b's own position is the least that is needed: %+v", r)
	}
	c.Touched(now+7, false)
	board.Primary.SentAt = now + 8
	if r = c.Require(LevelSession, now+8, &view, &board); r.Sticky != "" || r.Token != 1300 {
		t.Fatalf("a turn on the primary replaces what was read before: %+v", r)
	}
}

func TestEpochs(t *testing.T) {
	cases := []struct {
		name          string
		token, fork   replication.LSN
		epoch         replication.Epoch
		lost, primary bool
	}{
		{"before the fork", 900, 1000, 4, false, false},
		{"at the fork", 1000, 1000, 4, false, false},
		{"past the fork", 1001, 1000, 4, true, true},
		{"two epochs on, without a chain", 900, 1000, 5, false, true},
	}
	for _, c := range cases {
		view, board := cluster()
		var s Consistency
		s.Touched(now, false)
		board.Primary.Flush = c.token
		s.Require(LevelSession, now, &view, &board)
		view.Epoch, view.ForkLSN, view.Open = c.epoch, c.fork, false
		if r := s.Require(LevelSession, now, &view, &board); r.Lost || r.PrimaryOnly || r.Token != c.token {
			t.Errorf("%s, not open yet: %+v", c.name, r)
		}
		view.Open = true
		r := s.Require(LevelSession, now, &view, &board)
		if r.Lost != c.lost || r.PrimaryOnly != c.primary {
			t.Errorf("%s: %+v", c.name, r)
		}
		board.Primary = replication.Sample{Epoch: c.epoch, SentAt: now, Flush: 2000}
		if r = s.Require(LevelSession, now, &view, &board); r.Lost || r.PrimaryOnly || c.primary && r.Token != 2000 {
			t.Errorf("%s, with a sample of the new epoch: %+v", c.name, r)
		}
	}
}
