package ha

import (
	"errors"
	"fmt"
	"time"
)

// Timing are the durations of the protocol. See docs/leadership.md, "The lease is a beat".
type Timing struct {
	TTL    time.Duration // a beat unchanged this long has expired; the record's Settings.TTL, the same on all nodes
	Renew  time.Duration // R: how often the holder beats
	RPC    time.Duration // O: limit of one store call
	Margin time.Duration // D: how long before expiry the door is shut
	Kill   time.Duration // K: from the shut door to the death of the last process
	// KillLead is how long before F1 the agent kills PostgreSQL itself, so that the guard need not.
	KillLead time.Duration
	Tie      time.Duration // how long the voter with the higher name waits for the lower at equal positions
	VoteWait time.Duration // how long votes of live members are awaited in asynchronous mode
	Degrade  time.Duration // how long a lost standby stays among the synchronous ones, and its commits wait
	Probe    time.Duration // period and limit of a probe
	Stop     time.Duration // a fast shutdown longer than this is escalated
	Start    time.Duration // starting (not recovering) longer than this is a failure
}

// DefaultTiming is the timing that belongs to a TTL of 5 s.
func DefaultTiming() Timing {
	return Timing{
		TTL: 5 * time.Second, Renew: 700 * time.Millisecond, RPC: time.Second, Margin: 2 * time.Second,
		Kill: time.Second, KillLead: 300 * time.Millisecond, Tie: 200 * time.Millisecond,
		VoteWait: 300 * time.Millisecond, Degrade: 2 * time.Second, Probe: time.Second, Stop: 20 * time.Second, Start: time.Minute,
	}
}

// ErrTiming says that durations do not leave the holder time to fence itself.
var ErrTiming = errors.New("unsafe timing")

// Validate checks 2R + O + D + 1 % TTL ≤ TTL, and that what must happen within D fits into it.
func (t Timing) Validate() error {
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"ttl", t.TTL}, {"renew", t.Renew}, {"rpc", t.RPC}, {"margin", t.Margin}, {"kill", t.Kill},
		{"kill lead", t.KillLead}, {"tie", t.Tie}, {"vote wait", t.VoteWait}, {"degrade", t.Degrade},
		{"probe", t.Probe}, {"stop", t.Stop},
		{"start", t.Start},
	} {
		if d.d <= 0 {
			return fmt.Errorf("%s is %v, not positive: %w", d.name, d.d, ErrTiming)
		}
	}
	if sum := 2*t.Renew + t.RPC + t.Margin + t.TTL/100; sum > t.TTL {
		return fmt.Errorf("2 renew + rpc + margin + 1%% ttl is %v, over ttl %v: %w", sum, t.TTL, ErrTiming)
	}
	if need := t.Kill + t.TTL/50; need > t.Margin {
		return fmt.Errorf("kill + 2%% ttl is %v, over margin %v: %w", need, t.Margin, ErrTiming)
	}
	if t.KillLead >= t.Kill {
		return fmt.Errorf("kill lead %v is not below kill %v: %w", t.KillLead, t.Kill, ErrTiming)
	}
	return nil
}
