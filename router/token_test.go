package router

import (
	"testing"

	"github.com/walgate/walgate/replication"
)

func TestCausalToken(t *testing.T) {
	for text, want := range map[string]CausalToken{
		"1-0/1": {1, 1}, "12-A/B0": {12, 0xA000000B0}, "18446744073709551615-FFFFFFFF/FFFFFFFF": {1<<64 - 1, 1<<64 - 1},
	} {
		got, ok := ParseCausalToken(text)
		if !ok || got != want || got.String() != text {
			t.Errorf("%q: got %v, %v, want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "-", "1", "1-", "-0/1", "0-0/1", "01-0/1", "1-0/0", "+1-0/1", "1-0/1 ", " 1-0/1", "1-0/1-2",
		"1.0/1", "x-0/1", "18446744073709551616-0/1", "1-100000000/0", "1-0/1\x00", "1-0/00000000000000000000000000000000000001"} {
		if got, ok := ParseCausalToken(text); ok {
			t.Errorf("%q: got %v", text, got)
		}
	}
	if (CausalToken{}).String() != "" {
		t.Error("the zero token has a text")
	}
}

func TestRaise(t *testing.T) {
	chain := []replication.Branch{{Epoch: 0, Timeline: 1}, {Epoch: 1, Timeline: 2, Fork: 100}, {Epoch: 3, Timeline: 3, Fork: 500}}
	cases := []struct {
		name          string
		token         CausalToken
		lost, primary bool
		want          replication.LSN
	}{
		{"of this epoch", CausalToken{3, 900}, false, false, 900},
		{"of the one before, before the fork", CausalToken{2, 500}, true, true, 0}, // its branch did not lead here
		{"of the first, before the fork", CausalToken{1, 500}, false, false, 500},
		{"of the first, past the fork", CausalToken{1, 501}, true, true, 0},
		{"of a later one", CausalToken{4, 600}, false, true, 0},
	}
	for _, c := range cases {
		view, board := cluster()
		view.Chain = chain
		var s Consistency
		if lost := s.Raise(c.token, &view); lost != c.lost {
			t.Errorf("%s: lost %v", c.name, lost)
		}
		board.Primary.SentAt = 0 // covers nothing
		if r := s.Require(LevelSession, now, &view, &board); r.Lost || r.PrimaryOnly != c.primary || r.Token != c.want {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	// What can't be judged yet is judged by the first read that can.
	view, board := cluster()
	view.Chain, view.Open = chain, false
	var s Consistency
	if s.Raise(CausalToken{1, 501}, &view) {
		t.Error("lost before the fork is known")
	}
	if r := s.Require(LevelSession, now, &view, &board); r.Lost || r.PrimaryOnly || r.Token != 501 {
		t.Errorf("not open yet: %+v", r)
	}
	view.Open = true
	if r := s.Require(LevelSession, now, &view, &board); !r.Lost || r.Token != 1000 {
		t.Errorf("open: %+v", r)
	}
	if r := s.Require(LevelSession, now, &view, &board); r.Lost {
		t.Errorf("told twice: %+v", r)
	}
	s = Consistency{}
	s.Raise(CausalToken{4, 700}, &view)
	s.Raise(CausalToken{3, 900}, &view) // the later one stays
	view.Epoch, view.Chain = 4, append(chain, replication.Branch{Epoch: 4, Timeline: 4, Fork: 650})
	board.Primary.Epoch = 4
	if r := s.Require(LevelStrong, now, &view, &board); r.Lost || r.PrimaryOnly || r.Token != 1000 {
		t.Errorf("strong: %+v", r)
	}
	if r := s.Require(LevelSession, now, &view, &board); r.Lost || r.PrimaryOnly || r.Token != 700 {
		t.Errorf("the epoch has come: %+v", r)
	}
}
