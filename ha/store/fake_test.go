package store

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// since returns a clock that starts near zero and, in a synctest bubble, follows its time.
func since() func() replication.Instant {
	start := time.Now()
	return func() replication.Instant { return replication.Instant(time.Second + time.Since(start)) }
}

func TestFakeConforms(t *testing.T) {
	var fake *Fake
	var of *testing.T
	conformance{
		open: func(t *testing.T) *Store {
			if of != t { // every case has a store of its own
				of, fake = t, NewFake(since(), time.Second)
			}
			return fake.Store("c", nil)
		},
		raw: func(_ *testing.T, key string, value []byte) { fake.SetRaw(key, value) },
	}.run(t)
}

func TestFakeFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := NewFake(since(), time.Second)
		var fault Fault
		s := fake.Store("c", func(Request) Fault { return fault })
		healthy := fake.Store("c", nil)

		fault = Fault{Drop: true}
		_, err := s.PutBeat(t.Context(), 0, ha.Beat{})
		wantErr(t, err, ErrUnavailable)
		fault = Fault{Stall: true}
		start := time.Now()
		_, err = s.Read(t.Context())
		wantErr(t, err, ErrUnavailable)
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("stalled for %v, want the timeout", waited)
		}
		fault = Fault{Unknown: true}
		_, err = s.PutBeat(t.Context(), 0, ha.Beat{N: 1})
		wantErr(t, err, ErrUnknown)
		snap := must[Snapshot](t)(healthy.Read(t.Context()))
		if snap.Beat == nil || snap.Beat.N != 1 {
			t.Fatal("a write of unknown outcome is not there")
		}
		fault = Fault{Delay: 3 * time.Second}
		_, err = s.PutBeat(t.Context(), snap.BeatRev, ha.Beat{N: 2})
		wantErr(t, err, ErrUnknown)
		if got := must[Snapshot](t)(healthy.Read(t.Context())); got.Beat.N != 1 {
			t.Error("a delayed write arrived early")
		}
		fake.Settle()
		if got := must[Snapshot](t)(healthy.Read(t.Context())); got.Beat.N != 2 {
			t.Error("a delayed write never arrived")
		}
	})
}

// A vote that travels for long must not come to stand after its node has withdrawn it and streams again.
func TestLateVoteDoesNotStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := NewFake(since(), time.Second)
		var fault Fault
		s := fake.Store("c", func(r Request) Fault {
			if r.Op == "write" {
				return fault
			}
			return Fault{}
		})
		fault = Fault{Delay: 5 * time.Second}
		_, err := s.PutVote(t.Context(), ha.Vote{Epoch: 2, Node: "a", LSN: 9})
		wantErr(t, err, ErrUnknown)
		fault = Fault{}
		if err := s.DeleteVote(t.Context(), 2, "a"); err != nil {
			t.Fatal(err)
		}
		fake.Settle()
		if got := must[Snapshot](t)(s.Read(t.Context())).Votes; len(got) != 0 {
			t.Errorf("withdrawn vote stands: %v", got)
		}
	})
}

func TestFakeLeasesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewFake(since(), time.Second).Store("c", nil)
		lease := must[Lease](t)(s.Grant(t.Context(), 3*time.Second))
		if err := s.PutNode(t.Context(), ha.NodeReport{Name: "a"}, lease); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := s.KeepLease(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, ok := must[Snapshot](t)(s.Read(t.Context())).Node("a"); !ok {
			t.Error("kept report is gone")
		}
		time.Sleep(time.Second)
		if _, ok := must[Snapshot](t)(s.Read(t.Context())).Node("a"); ok {
			t.Error("report outlives its lease")
		}
	})
}
