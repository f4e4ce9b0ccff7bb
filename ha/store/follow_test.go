package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

const (
	ttl    = 5 * time.Second
	margin = 100 * time.Millisecond
)

// scripted is a source whose reads a test hands out.
type scripted struct{ Source }

func (scripted) Cluster() string { return "c" }

func newScripted(t *testing.T) *Follower {
	t.Helper()
	f, err := NewFollower(FollowerConfig{Period: time.Second, Timeout: time.Second, Margin: margin, Clock: since()},
		scripted{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// seen builds the snapshot of a read sent at second at.
func seen(at int, beatRev int64, change ...func(*ha.Record, *ha.Beat)) Snapshot {
	record := &ha.Record{Cluster: "c", Epoch: 3, Primary: "a", Open: true, Settings: ha.Settings{TTL: ttl}}
	beat := &ha.Beat{Epoch: 3, Holder: "a"}
	for _, c := range change {
		c(record, beat)
	}
	return Snapshot{SentAt: replication.Instant(at) * replication.Instant(time.Second), Revision: 100 + beatRev,
		Record: record, RecordRev: 50, Beat: beat, BeatRev: beatRev}
}

func TestGrant(t *testing.T) {
	until := func(at int) replication.Grant { // counted from a read sent at second at
		return replication.Grant{Epoch: 3, Deadline: replication.Instant(time.Duration(at)*time.Second + ttl - margin)}
	}
	none := replication.Grant{}
	closed := func(r *ha.Record, _ *ha.Beat) { r.Open = false }
	released := func(_ *ha.Record, b *ha.Beat) { b.Release = &ha.Release{Kind: ha.ReleaseClean} }
	claimed := func(r *ha.Record, b *ha.Beat) { r.Epoch, b.Epoch, r.Open, r.Primary, b.Holder = 4, 4, false, "b", "b" }
	opened := func(r *ha.Record, b *ha.Beat) { r.Epoch, b.Epoch, r.Open, r.Primary, b.Holder = 4, 4, true, "b", "b" }
	epoch4 := func(g replication.Grant) replication.Grant { g.Epoch = 4; return g }
	for _, test := range []struct {
		name  string
		reads []Snapshot
		want  []replication.Grant
	}{
		{"the first read grants nothing", []Snapshot{seen(10, 7)}, []replication.Grant{none}},
		{"nor do more of the same beat", []Snapshot{seen(10, 7), seen(11, 7)}, []replication.Grant{none, none}},
		{"a change counts from the read before it", []Snapshot{seen(10, 7), seen(11, 8)}, []replication.Grant{none, until(10)}},
		{"an unchanged beat extends nothing",
			[]Snapshot{seen(10, 7), seen(11, 8), seen(12, 8), seen(13, 8)}, []replication.Grant{none, until(10), until(10), until(10)}},
		{"the last read that showed the older one counts",
			[]Snapshot{seen(10, 7), seen(11, 8), seen(12, 8), seen(13, 9)}, []replication.Grant{none, until(10), until(10), until(12)}},
		{"after a long pause the grant is old", []Snapshot{seen(10, 7), seen(60, 8)}, []replication.Grant{none, until(10)}},
		{"a shut door", []Snapshot{seen(10, 7), seen(11, 8, closed)}, []replication.Grant{none, none}},
		{"a release shuts at once", []Snapshot{seen(10, 7), seen(11, 8), seen(12, 9, released)}, []replication.Grant{none, until(10), none}},
		{"a claim shuts the old epoch, its opening grants",
			[]Snapshot{seen(10, 7), seen(11, 8), seen(12, 9, claimed), seen(13, 9, opened), seen(14, 10, opened)},
			[]replication.Grant{none, until(10), none, epoch4(until(11)), epoch4(until(13))}},
		{"a beat of another epoch than the record's",
			[]Snapshot{seen(10, 7), seen(11, 8, func(_ *ha.Record, b *ha.Beat) { b.Epoch = 2 })}, []replication.Grant{none, none}},
		{"a beat of another holder than the record's",
			[]Snapshot{seen(10, 7), seen(11, 8, func(_ *ha.Record, b *ha.Beat) { b.Holder = "b" })}, []replication.Grant{none, none}},
		{"a store that went back in time", []Snapshot{seen(10, 7), seen(11, 8), seen(12, 6)}, []replication.Grant{none, until(10), none}},
		{"a beat that is not there yet", []Snapshot{{SentAt: 1, Revision: 1}, seen(11, 8)}, []replication.Grant{none,
			{Epoch: 3, Deadline: replication.Instant(1).Add(ttl - margin)}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newScripted(t)
			for i, snap := range test.reads {
				f.accept(snap)
				if got := f.Gate().Grant(); got != test.want[i] {
					t.Errorf("after read %d: got %+v, want %+v", i, got, test.want[i])
				}
			}
		})
	}
}

// The gate of a proxy must be shut before any candidate, judging by its own clock, may claim. Reads are delayed at will.
func TestGateShutsBeforeAnyClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := since()
		fake := NewFake(clock, time.Second)
		holder := fake.Store("c", nil)
		var lag sync.Map
		proxy := fake.Store("c", func(r Request) Fault {
			if d, ok := lag.Load("d"); ok && r.Op == "read" {
				return Fault{Delay: d.(time.Duration)}
			}
			return Fault{}
		})
		record := sampleRecord()
		record.Epoch, record.Primary, record.Open = 1, "a", true
		must[int64](t)(holder.CreateRecord(t.Context(), record, 0))
		rev := must[int64](t)(holder.PutBeat(t.Context(), 0, ha.Beat{Epoch: 1, Holder: "a"}))

		f, err := NewFollower(FollowerConfig{Period: 700 * time.Millisecond, Gap: 20 * time.Millisecond, Timeout: time.Second,
			Margin: margin, Clock: clock}, proxy, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		var runErr error
		wg.Go(func() { runErr = f.Run(ctx) })
		var wrote replication.Instant
		for n := uint64(1); n <= 30; n++ {
			time.Sleep(700 * time.Millisecond)
			lag.Store("d", time.Duration(n%9)*100*time.Millisecond)
			wrote = clock()
			rev = must[int64](t)(holder.PutBeat(t.Context(), rev, ha.Beat{Epoch: 1, Holder: "a", N: n}))
			if n > 3 && !f.Gate().Allows(1, clock()) {
				t.Errorf("gate shut while the holder beats: %v", f.Err())
			}
		}
		if view := f.Views().Load(); view.Primary != "a" || view.Epoch != 1 {
			t.Errorf("got view %+v", view)
		}
		earliestClaim := wrote.Add(ttl) // of a candidate that saw the last beat the moment it was written
		for clock() < earliestClaim {
			time.Sleep(50 * time.Millisecond)
		}
		if f.Gate().Allows(1, clock()) {
			t.Error("gate open when the next epoch may be claimed")
		}
		stop := errors.New("stop")
		cancel(stop)
		wg.Wait()
		wantErr(t, runErr, stop)
		fake.Settle()
	})
}

func TestFollowerCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := NewFake(since(), time.Second)
		var reads atomic.Int64
		s := fake.Store("c", func(r Request) Fault {
			if r.Op == "read" {
				reads.Add(1)
			}
			return Fault{}
		})
		f, err := NewFollower(FollowerConfig{Period: 10 * time.Second, Gap: 50 * time.Millisecond, Timeout: time.Second,
			Clock: since()}, s, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = f.Run(ctx) })
		other := fake.Store("c", nil)
		var rev int64
		for n := range 100 {
			rev = must[int64](t)(other.PutBeat(t.Context(), rev, ha.Beat{N: uint64(n)}))
			time.Sleep(time.Millisecond)
		}
		snap, err := f.Snapshots().Wait(t.Context(), func(s Snapshot) bool { return s.BeatRev == rev })
		if err != nil || snap.Beat.N != 99 || reads.Load() > 5 {
			t.Errorf("got beat %v after %d reads, error %v", snap.Beat, reads.Load(), err)
		}
		fake.SetRaw("/walgate/c/beat", []byte("?"))
		time.Sleep(time.Second)
		var corrupt *CorruptError
		if err := f.Err(); !errors.As(err, &corrupt) {
			t.Errorf("got error %v", err)
		}
		cancel()
		wg.Wait()
	})
}

func TestRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := NewFake(since(), time.Second)
		var stalled atomic.Bool
		var writes atomic.Int64
		s := fake.Store("c", func(r Request) Fault {
			if r.Op == "write" {
				writes.Add(1)
			}
			return Fault{Stall: stalled.Load()}
		})
		r, err := NewNodeRegistration(RegistrationConfig{TTL: 3 * time.Second, Gap: 100 * time.Millisecond, Timeout: time.Second},
			s, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Run(ctx) })
		other := fake.Store("c", nil)
		state := func() string {
			n, _ := must[Snapshot](t)(other.Read(t.Context())).Node("a")
			return n.State
		}
		r.Update(ha.NodeReport{Name: "a", State: "starting"})
		time.Sleep(10 * time.Millisecond)
		if got := state(); got != "starting" || writes.Load() != 1 {
			t.Errorf("got %q after %d writes", got, writes.Load())
		}
		for range 50 {
			r.Update(ha.NodeReport{Name: "a", State: "streaming"})
		}
		time.Sleep(10 * time.Second)
		if got := state(); got != "streaming" || writes.Load() != 2 {
			t.Errorf("got %q after %d writes, want 2", got, writes.Load())
		}
		stalled.Store(true)
		time.Sleep(6 * time.Second)
		if got := state(); got != "" {
			t.Errorf("got %q, want the lease to have run out", got)
		}
		stalled.Store(false)
		time.Sleep(3 * time.Second)
		if got := state(); got != "streaming" {
			t.Errorf("got %q after the store came back", got)
		}
		cancel()
		wg.Wait()
		if got := state(); got != "" {
			t.Errorf("got %q after the end", got)
		}
	})
}
