package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// conformance is what both implementations must do. open returns the access of one more participant to the same store;
// raw writes bytes under a key, past the Store.
type conformance struct {
	open func(t *testing.T) *Store
	raw  func(t *testing.T, key string, value []byte)
}

func (c conformance) run(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Store, conformance)
	}{
		{"an empty store", testEmpty},
		{"the record is created once", testCreate},
		{"record and beat are swapped", testSwap},
		{"a claim compares everything", testClaim},
		{"a claim meets a pause", testClaimPaused},
		{"the door opens once", testOpenDoor},
		{"votes are withdrawn for good", testVotes},
		{"the init lock", testInit},
		{"reports live with their lease", testReports},
		{"damaged values are named", testCorrupt},
		{"the ledger's window", testLedgerWindow},
		{"a watch announces", testWatch},
		{"an ended context", testEndedContext},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c.open(t), c) })
	}
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// sampleRecord has something in every field.
func sampleRecord() ha.Record {
	return ha.Record{
		Version: 1, Cluster: "c", SystemID: "7301", Timeline: 1, ForkLSN: 0x3000148,
		Members:  []ha.Member{{Name: "a", Host: "127.0.0.1", Port: 1, API: "http://x", Tags: map[string]string{"k": "v"}}},
		Sync:     ha.Sync{Mode: ha.SyncQuorum, Quorum: 1, Voters: []replication.NodeID{"b", "c"}},
		Settings: ha.Settings{TTL: 5 * time.Second, MaximumLag: 1 << 20, OnCrash: "auto"},
		Last:     &ha.Failover{Epoch: 1, From: "a", To: "b", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reason: "r"},
	}
}

// bootstrap creates a record and returns the snapshot that shows it.
func bootstrap(t *testing.T, s *Store) Snapshot {
	t.Helper()
	must[int64](t)(s.CreateRecord(t.Context(), sampleRecord(), 0))
	return must[Snapshot](t)(s.Read(t.Context()))
}

func claimOf(snap Snapshot, by replication.NodeID) Claim {
	record := *snap.Record
	record.Epoch, record.Primary, record.Open = record.Epoch+1, by, false
	record.Version++
	return Claim{RecordRev: snap.RecordRev, BeatRev: snap.BeatRev, Votes: snap.VotesFor(record.Epoch), Record: record,
		Beat: ha.Beat{Epoch: record.Epoch, Holder: by, Nonce: string(by)}}
}

func testEmpty(t *testing.T, s *Store, _ conformance) {
	snap := must[Snapshot](t)(s.Read(t.Context()))
	if snap.SentAt == 0 || snap.Revision == 0 {
		t.Errorf("got sent at %d, revision %d", snap.SentAt, snap.Revision)
	}
	snap.SentAt, snap.Revision = 0, 0
	if diff := cmp.Diff(Snapshot{}, snap); diff != "" {
		t.Error(diff)
	}
}

func testCreate(t *testing.T, s *Store, _ conformance) {
	snap := bootstrap(t, s)
	want := sampleRecord()
	if diff := cmp.Diff(&want, snap.Record); diff != "" {
		t.Error(diff)
	}
	_, err := s.CreateRecord(t.Context(), sampleRecord(), 0)
	wantErr(t, err, ErrConflict)
}

func testSwap(t *testing.T, s *Store, _ conformance) {
	snap := bootstrap(t, s)
	rec := *snap.Record
	rec.Version = 2
	rev := must[int64](t)(s.PutRecord(t.Context(), snap.RecordRev, rec))
	_, err := s.PutRecord(t.Context(), snap.RecordRev, rec)
	wantErr(t, err, ErrConflict)
	_, err = s.PutRecord(t.Context(), 0, rec)
	wantErr(t, err, ErrConflict)
	beat := ha.Beat{Epoch: 1, Holder: "a", Nonce: "n", N: 1, Timeline: 1, Flush: 5,
		Release: &ha.Release{Kind: ha.ReleaseClean, Timeline: 1, LSN: 9, To: "b"}}
	beatRev := must[int64](t)(s.PutBeat(t.Context(), 0, beat))
	_, err = s.PutBeat(t.Context(), 0, beat)
	wantErr(t, err, ErrConflict)
	got := must[Snapshot](t)(s.Read(t.Context()))
	if got.RecordRev != rev || got.Record.Version != 2 || got.BeatRev != beatRev || got.Revision != beatRev {
		t.Errorf("got record %d at %d, beat at %d, revision %d", got.Record.Version, got.RecordRev, got.BeatRev, got.Revision)
	}
	if diff := cmp.Diff(&beat, got.Beat); diff != "" {
		t.Error(diff)
	}
}

func testClaim(t *testing.T, s *Store, _ conformance) {
	bootstrap(t, s)
	must[int64](t)(s.PutBeat(t.Context(), 0, ha.Beat{Epoch: 0, Holder: "z", Nonce: "z"}))
	for _, node := range []replication.NodeID{"b", "c"} {
		must[int64](t)(s.PutVote(t.Context(), ha.Vote{Epoch: 1, Node: node, Timeline: 1, LSN: 7}))
	}
	stale := must[Snapshot](t)(s.Read(t.Context()))
	if len(stale.VotesFor(1)) != 2 {
		t.Fatalf("got votes %v", stale.Votes)
	}
	must[int64](t)(s.PutBeat(t.Context(), stale.BeatRev, ha.Beat{Holder: "z", Nonce: "z", N: 2}))
	_, err := s.Claim(t.Context(), claimOf(stale, "b"))
	wantErr(t, err, ErrConflict) // the beat
	snap := must[Snapshot](t)(s.Read(t.Context()))
	if err := s.DeleteVote(t.Context(), 1, "c"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Claim(t.Context(), claimOf(snap, "b"))
	wantErr(t, err, ErrConflict) // the vote
	must[int64](t)(s.PutVote(t.Context(), ha.Vote{Epoch: 1, Node: "c", Timeline: 1, LSN: 8}))
	_, err = s.Claim(t.Context(), claimOf(snap, "b"))
	wantErr(t, err, ErrConflict) // another vote of the same node
	snap = must[Snapshot](t)(s.Read(t.Context()))
	rev := must[int64](t)(s.Claim(t.Context(), claimOf(snap, "b")))
	_, err = s.Claim(t.Context(), claimOf(snap, "c"))
	wantErr(t, err, ErrConflict) // somebody was faster
	got := must[Snapshot](t)(s.Read(t.Context()))
	if got.RecordRev != rev || got.BeatRev != rev || got.Record.Primary != "b" || got.Beat.Holder != "b" || got.Record.Epoch != 1 {
		t.Errorf("got %+v %+v at %d, %d; want b at %d", got.Record, got.Beat, got.RecordRev, got.BeatRev, rev)
	}
	if len(got.VotesFor(1)) != 2 {
		t.Errorf("votes of the claimed epoch: %v", got.Votes)
	}
	must[int64](t)(s.Claim(t.Context(), claimOf(got, "c")))
	if got = must[Snapshot](t)(s.Read(t.Context())); len(got.Votes) != 0 {
		t.Errorf("votes of a past epoch: %v", got.Votes)
	}
}

func testClaimPaused(t *testing.T, s *Store, _ conformance) {
	snap := bootstrap(t, s)
	paused := *snap.Record
	paused.Paused = true
	must[int64](t)(s.PutRecord(t.Context(), snap.RecordRev, paused))
	_, err := s.Claim(t.Context(), claimOf(snap, "b"))
	wantErr(t, err, ErrConflict) // judged before the pause
	_, err = s.Claim(t.Context(), claimOf(must[Snapshot](t)(s.Read(t.Context())), "b"))
	wantErr(t, err, ErrConflict) // judged wrongly
}

func testOpenDoor(t *testing.T, s *Store, _ conformance) {
	snap := bootstrap(t, s)
	must[int64](t)(s.Claim(t.Context(), claimOf(snap, "b")))
	snap = must[Snapshot](t)(s.Read(t.Context()))
	door := OpenDoor{RecordRev: snap.RecordRev, BeatRev: snap.BeatRev, Record: *snap.Record,
		Entry: ha.LedgerEntry{Epoch: 1, Timeline: 2, ForkLSN: 3, NextXID: 4, SystemID: "7301", Winner: "b", From: "a",
			Reason: "r", Votes: []ha.Vote{{Epoch: 1, Node: "b"}}, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	door.Record.Open = true
	stale := door
	stale.BeatRev--
	_, err := s.OpenDoor(t.Context(), stale)
	wantErr(t, err, ErrConflict)
	must[int64](t)(s.OpenDoor(t.Context(), door))
	got := must[Snapshot](t)(s.Read(t.Context()))
	entry, ok := got.Entry(1)
	if diff := cmp.Diff(door.Entry, entry); diff != "" || !ok || !got.Record.Open {
		t.Errorf("open %v: %s", got.Record.Open, diff)
	}
	door.RecordRev = got.RecordRev
	_, err = s.OpenDoor(t.Context(), door)
	wantErr(t, err, ErrConflict) // the entry is there
}

func testVotes(t *testing.T, s *Store, _ conformance) {
	if err := s.DeleteVote(t.Context(), 3, "a"); err != nil {
		t.Fatal("withdraw what is not there:", err)
	}
	rev := must[int64](t)(s.PutVote(t.Context(), ha.Vote{Epoch: 3, Node: "a", Timeline: 1, LSN: 7}))
	got := must[Snapshot](t)(s.Read(t.Context())).Votes
	want := []VoteRev{{Vote: ha.Vote{Epoch: 3, Node: "a", Timeline: 1, LSN: 7}, Rev: rev}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := s.DeleteVote(t.Context(), 3, "a"); err != nil {
		t.Fatal(err)
	}
	if got := must[Snapshot](t)(s.Read(t.Context())).Votes; len(got) != 0 {
		t.Errorf("withdrawn vote stands: %v", got)
	}
}

func testInit(t *testing.T, s *Store, c conformance) {
	lease, rev, err := s.AcquireInit(t.Context(), "a", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	other := c.open(t)
	_, _, err = other.AcquireInit(t.Context(), "b", 5*time.Second)
	wantErr(t, err, ErrConflict)
	snap := must[Snapshot](t)(other.Read(t.Context()))
	if snap.InitHolder != "a" || snap.InitRev != rev {
		t.Errorf("got %q at %d, want a at %d", snap.InitHolder, snap.InitRev, rev)
	}
	if err := s.KeepLease(t.Context(), lease); err != nil {
		t.Error(err)
	}
	if err := s.ReleaseInit(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.KeepLease(t.Context(), lease), ErrLeaseLost)
	_, err = s.CreateRecord(t.Context(), sampleRecord(), rev)
	wantErr(t, err, ErrConflict) // no longer the one
	_, rev, err = other.AcquireInit(t.Context(), "b", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	must[int64](t)(other.CreateRecord(t.Context(), sampleRecord(), rev))
	if err := other.ReleaseInit(t.Context(), lease); err != nil {
		t.Error("release twice:", err)
	}
}

func testReports(t *testing.T, s *Store, _ conformance) {
	lease := must[Lease](t)(s.Grant(t.Context(), 5*time.Second))
	node := ha.NodeReport{Name: "a", API: "http://a", State: "running", Timeline: 1, Received: 1, Replayed: 2}
	proxy := ha.ProxyReport{ID: "p1", Addr: "x:1", Epoch: 1, HandoffID: "h", OpenTx: 2}
	if err := errors.Join(s.PutNode(t.Context(), node, lease), s.PutProxy(t.Context(), proxy, lease)); err != nil {
		t.Fatal(err)
	}
	snap := must[Snapshot](t)(s.Read(t.Context()))
	if diff := cmp.Diff([]ha.NodeReport{node}, snap.Nodes) + cmp.Diff([]ha.ProxyReport{proxy}, snap.Proxies); diff != "" {
		t.Error(diff)
	}
	if err := s.DeleteNode(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	snap = must[Snapshot](t)(s.Read(t.Context()))
	if len(snap.Nodes)+len(snap.Proxies) != 0 {
		t.Errorf("reports outlive their lease: %v %v", snap.Nodes, snap.Proxies)
	}
	wantErr(t, s.PutNode(t.Context(), node, lease), ErrLeaseLost)
}

func testCorrupt(t *testing.T, s *Store, c conformance) {
	for name, value := range map[string]string{
		"record":                       `{"epoch":`,
		"beat":                         `{"epoch":1,"surprise":2}`,
		"nodes/a":                      `{"name":"b"}`,
		"votes/00000000000000000001/a": `{"epoch":2,"node":"a"}`,
		"init":                         `"a" "b"`,
	} {
		key := s.prefix + name
		c.raw(t, key, []byte(value))
		_, err := s.Read(t.Context())
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || corrupt.Key != key {
			t.Errorf("%s = %s: got error %v", key, value, err)
		}
		c.raw(t, key, nil)
	}
}

func testLedgerWindow(t *testing.T, s *Store, c conformance) {
	for epoch := replication.Epoch(1); epoch <= LedgerWindow+5; epoch++ {
		put := s.put(keyLedger+epochName(epoch), ha.LedgerEntry{Epoch: epoch})
		c.raw(t, put.key, put.value)
	}
	ledger := must[Snapshot](t)(s.Read(t.Context())).Ledger
	if len(ledger) != LedgerWindow || ledger[0].Epoch != 6 || ledger[LedgerWindow-1].Epoch != LedgerWindow+5 {
		t.Errorf("got %d entries from %d", len(ledger), ledger[0].Epoch)
	}
}

func testWatch(t *testing.T, s *Store, c conformance) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	changed := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.open(t).Watch(ctx, func() { changed <- struct{}{} })
	}()
	<-changed // the watch stands, or soon will
	rev := must[int64](t)(s.PutBeat(ctx, 0, ha.Beat{}))
	for n := uint64(1); len(changed) == 0; n++ { // whatever is missed before it stands is announced then
		rev = must[int64](t)(s.PutBeat(ctx, rev, ha.Beat{N: n}))
	}
	cancel()
	<-done
}

func testEndedContext(t *testing.T, s *Store, _ conformance) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Read(ctx)
	wantErr(t, err, ErrUnavailable)
	_, err = s.PutBeat(ctx, 0, ha.Beat{})
	wantErr(t, err, ErrUnavailable) // surely not sent
}
