package router

import (
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
			AskedAt: now, At: now, Incarnation: 7, Timeline: 2, Replayed: 1000}
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
	noC := change("c", func(s *replication.Status) { s.Reachable = false })
	cases := []struct {
		name string
		do   []func(*Input)
		want replication.NodeID
	}{
		{"a write", []func(*Input){func(in *Input) { in.Kind = Write }}, "a"},
		{"a read", nil, "b"},
		{"a read, another seed", []func(*Input){func(in *Input) { in.Seed = 2 }}, "c"},
		{"least loaded", []func(*Input){func(in *Input) { in.Load = []int32{0, 5, 4} }}, "c"},
		{"target primary", []func(*Input){func(in *Input) { in.Target = TargetPrimary }}, "a"},
		{"a write with target replica", []func(*Input){func(in *Input) { in.Target, in.Kind = TargetReplica, Write }}, "b"},
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
		}}, "a"},
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
		if got := Pick(in); got.Node != c.want || got.Why == "" {
			t.Errorf("%s: got %+v, want %q", c.name, got, c.want)
		}
	}
	view, board := cluster()
	if n := testing.AllocsPerRun(100, func() { Pick(Input{View: &view, Board: &board, Now: now, Kind: Read}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestReadYourWrites(t *testing.T) {
	view, board := cluster()
	var c Consistency
	if r := c.Require(LevelSession, now, &view, &board); r.PrimaryOnly || r.Token != 0 {
		t.Fatalf("a fresh session: %+v", r)
	}
	c.Touched(now + 1)
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
	c.Touched(now + 7)
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
		{"two epochs on", 900, 1000, 5, false, true},
	}
	for _, c := range cases {
		view, board := cluster()
		var s Consistency
		s.Touched(now)
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
