package loop

import (
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

// A thread that stops running just behind a look at the clock must not make the loop's time too early: the gate would let
// pass what it must not.
func TestLapIsNotBehind(t *testing.T) {
	const pause = 20 * time.Millisecond
	start := time.Now()
	l, err := newLoop(&Driver{cfg: Config{Now: func() replication.Instant {
		now := time.Since(start)
		for time.Since(start) < now+pause { // the clock has been read, but nobody knows it yet
			continue
		}
		return replication.Instant(now)
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	l.look()
	before := replication.Instant(time.Since(start))
	if l.lap(); l.now < before {
		t.Errorf("the loop's time is %v behind", before.Sub(l.now))
	}
}
