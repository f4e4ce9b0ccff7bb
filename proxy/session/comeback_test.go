package session

import (
	"strings"
	"testing"
)

// A session's turns, and which of its reads wait for a standby: w is a write, r a read that runs on the primary, R one that
// waits for a standby in vain, s one that a standby serves, S one that waits and is then served by a standby.
func TestComeback(t *testing.T) {
	tests := []struct{ name, turns string }{
		{"right behind a write none waits", "wrwrwrwr"},
		{"the second read waits and comes back", "wrSsssswrSs"},
		{"reads of a session that has never written", "rSss"},
		{"in vain: more and more seldom", "wrRrrRrrrrRrrrrrrrrRr"},
		{"in vain, with writes between: as seldom", "wrRwrrRwrrwrrRwrrrr"},
		{"after a success as at first", "wrRrrRrrrrSswrS"},
	}
	for _, tt := range tests {
		var c comeback
		var got strings.Builder
		for _, turn := range tt.turns {
			letter := strings.ToLower(string(turn))
			if letter != "w" && c.attempt() {
				got.WriteString(strings.ToUpper(letter))
			} else {
				got.WriteString(letter)
			}
			if letter == "s" {
				c.standby()
			} else {
				c.primary(letter == "r")
			}
		}
		if got.String() != tt.turns {
			t.Errorf("%s: got %s, want %s", tt.name, got.String(), tt.turns)
		}
	}
}

// However long no standby is far enough, an attempt is made now and then.
func TestComebackIsTriedForEver(t *testing.T) {
	var c comeback
	since := 0
	for turn := range 10_000 {
		if since++; c.attempt() {
			since = 0
		}
		c.primary(true)
		if since > maxComebackGap {
			t.Fatalf("turn %d: no attempt in %d reads", turn, since)
		}
	}
}

func TestAttemptMayBeAskedForAgain(t *testing.T) {
	c := comeback{reads: 1, after: true}
	for range 2 {
		if !c.attempt() {
			t.Error("a turn that asks for a server a second time does not wait any more")
		}
	}
}
