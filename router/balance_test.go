package router

import (
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

// standing makes the standings of members that have so many turns to do.
func standing(outstanding ...int32) []Standing {
	var all []Standing
	for _, n := range outstanding {
		all = append(all, Standing{Outstanding: n, Traits: Traits{Weight: unit}})
	}
	return all
}

func traits(view *replication.View) []Standing {
	var all []Standing
	for i := range view.Members {
		all = append(all, Standing{Traits: TraitsOf(&view.Members[i])})
	}
	return all
}

// share counts how many of a thousand reads go to each member.
func share(in Input) map[replication.NodeID]int {
	got := map[replication.NodeID]int{}
	for in.Seed = range uint32(1000) {
		got[Pick(in).Node]++
	}
	return got
}

func TestShares(t *testing.T) {
	cases := []struct {
		name       string
		change     func(*Input)
		node       replication.NodeID
		least, top int
	}{
		{"equals", func(*Input) {}, "b", 420, 580},
		{"three times the weight", func(in *Input) {
			in.View.Members[1].Tags = map[string]string{TagWeight: "3"}
			in.Members = traits(in.View)
		}, "b", 680, 820},
		{"a weight that is no number", func(in *Input) {
			in.View.Members[1].Tags = map[string]string{TagWeight: "heavy"}
			in.Members = traits(in.View)
		}, "b", 420, 580},
		{"back for a quarter of the slow start", func(in *Input) {
			in.Members, in.Balance.SlowStart = standing(0, 0, 0), 4*time.Second
			in.Members[1].Away.BackAt = now - replication.Instant(time.Second)
		}, "b", 130, 270},
		{"back this moment", func(in *Input) {
			in.Members, in.Balance.SlowStart = standing(0, 0, 0), 4*time.Second
			in.Members[1].Away.BackAt = now
		}, "b", 50, 140},
		{"seen to be back after the clock was read, no slow start", func(in *Input) {
			in.Members, in.Balance.SlowStart = standing(0, 0, 0), 0
			in.Members[1].Away.BackAt = now + 1
		}, "b", 420, 580},
		{"back for long", func(in *Input) {
			in.Members, in.Balance.SlowStart = standing(0, 0, 0), 4*time.Second
			in.Members[1].Away.BackAt = now - replication.Instant(time.Minute)
		}, "b", 420, 580},
		{"a fifth for the primary", func(in *Input) { in.Balance.PrimaryShare = 20 }, "a", 150, 250},
		{"a weight counts for what there is to do", func(in *Input) {
			in.View.Members[1].Tags = map[string]string{TagWeight: "10"}
			in.Members = traits(in.View)
			in.Members[1].Outstanding, in.Members[2].Outstanding = 10, 4
		}, "b", 1000, 1000},
	}
	for _, c := range cases {
		view, board := cluster()
		in := Input{View: &view, Board: &board, Now: now, Kind: Read, Limits: Limits{MaxAge: time.Second}}
		c.change(&in)
		if got := share(in); got[c.node] < c.least || got[c.node] > c.top {
			t.Errorf("%s: %s has %d of 1000 reads, want %d to %d; all: %v", c.name, c.node, got[c.node], c.least, c.top, got)
		}
	}
}

func TestAbsence(t *testing.T) {
	view, board := cluster()
	limits := Limits{MaxLagBytes: 100, MaxLag: 10 * time.Second}
	const after = 500 * time.Millisecond
	at := func(d time.Duration) replication.Instant { return now.Add(d) }
	steps := []struct {
		name         string
		at           time.Duration
		change       func(*replication.Status)
		away, behind bool
	}{
		{"well", 0, func(*replication.Status) {}, false, false},
		{"unreachable: at once", 1, func(s *replication.Status) { s.Reachable, s.LagBytes, s.Lag = false, -1, -1 }, true, true},
		{"reachable again", 2, func(s *replication.Status) { s.Reachable, s.LagBytes, s.Lag = true, 0, 0 }, true, true},
		{"for a while", 2 + after - 1, func(*replication.Status) {}, true, true},
		{"for long enough", 2 + after, func(*replication.Status) {}, false, false},
		{"lag at the limit", time.Second, func(s *replication.Status) { s.LagBytes = 100 }, false, false},
		{"past it", time.Second, func(s *replication.Status) { s.LagBytes = 101 }, false, true},
		{"below it", time.Second, func(s *replication.Status) { s.LagBytes = 51 }, false, true},
		{"and so for long", time.Minute, func(*replication.Status) {}, false, true},
		{"half of it", time.Minute, func(s *replication.Status) { s.LagBytes = 50 }, false, true},
		{"for long enough", time.Minute + after, func(*replication.Status) {}, false, false},
		{"paused: too long behind", 2 * time.Minute, func(s *replication.Status) { s.Lag = 11 * time.Second }, false, true},
		{"lag not known", 2 * time.Minute, func(s *replication.Status) { s.Lag = -1 }, false, true},
		{"well, and away in between", 2 * time.Minute, func(s *replication.Status) { s.Lag = 0 }, false, true},
		{"stream broken", 2*time.Minute + 1, func(s *replication.Status) { s.Streaming = false }, true, true},
		{"stream again", 2*time.Minute + after, func(s *replication.Status) { s.Streaming = true }, true, true},
		{"the wait began anew", 2*time.Minute + after + 1, func(*replication.Status) {}, true, true},
		{"for long enough", 3 * time.Minute, func(*replication.Status) {}, false, false},
	}
	st := board.Nodes["b"]
	var s Standing
	for _, step := range steps {
		step.change(&st)
		s.Look(st, &view, at(step.at), limits, after)
		if s.Away.Out != step.away || s.Behind.Out != step.behind {
			t.Errorf("%s: got %+v, want away %v, behind %v", step.name, s, step.away, step.behind)
		}
	}
	if s.Away.BackAt != at(3*time.Minute) {
		t.Errorf("back at %v", s.Away.BackAt)
	}
	s.Look(replication.Status{}, &view, now, limits, after)
	if s.Away.Out {
		t.Error("a member that was never asked counts as away")
	}
}
