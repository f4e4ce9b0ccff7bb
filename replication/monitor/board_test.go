package monitor

import (
	"errors"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

func at(d time.Duration) replication.Instant { return replication.Instant(time.Hour + d) }

func TestLag(t *testing.T) {
	var h history
	h.add(at(0), 100)
	h.add(at(1*time.Second), 100)
	h.add(at(2*time.Second), 200)
	h.add(at(3*time.Second), 300)
	cases := []struct {
		name     string
		replayed replication.LSN
		asked    time.Duration
		bytes    int64
		behind   time.Duration
	}{
		{"has everything", 300, 4 * time.Second, 0, 0},
		{"has everything, long idle", 300, time.Hour, 0, 0},
		{"one write behind", 250, 4 * time.Second, 50, 2 * time.Second},
		{"two writes behind: as of the last time that 100 was all", 150, 4 * time.Second, 150, 3 * time.Second},
		{"asked before the newest was learned", 200, 2500 * time.Millisecond, 0, 0},
		{"asked between, behind", 100, 2500 * time.Millisecond, 100, 1500 * time.Millisecond},
		{"older than the ring knows: at least", 50, 4 * time.Second, 250, 4 * time.Second},
		{"asked before anything was known", 50, -time.Second, -1, -1},
	}
	for _, c := range cases {
		if bytes, behind := h.lag(c.replayed, at(c.asked)); bytes != c.bytes || behind != c.behind {
			t.Errorf("%s: got %d, %v, want %d, %v", c.name, bytes, behind, c.bytes, c.behind)
		}
	}
	for i := range 3 * historyLength {
		h.add(at(time.Duration(i)*time.Minute), replication.LSN(1000+i))
	}
	if bytes, behind := h.lag(0, at(3*historyLength*time.Minute)); bytes != 1000+3*historyLength-1 || behind != historyLength*time.Minute {
		t.Errorf("a full ring: got %d, %v", bytes, behind)
	}
}

func TestBoard(t *testing.T) {
	var out replication.Feed[replication.StatusBoard]
	b := newBoard(&out)
	view := replication.View{Epoch: 2, Primary: "a", Open: true, Timeline: 3}
	b.follow(view)
	primary := answer{status: replication.Status{Role: replication.RolePrimary, Reachable: true, Timeline: 3, Received: 100, Replayed: 100},
		syncState: map[replication.NodeID]string{"b": "quorum"}}
	standby := answer{status: replication.Status{Role: replication.RoleStandby, Reachable: true, Timeline: 3, Received: 90, Replayed: 80, Streaming: true}}

	b.record("b", at(0), at(1), standby, nil)
	if st := out.Load().Status("b"); st.LagBytes != -1 || st.Lag != -1 {
		t.Errorf("lag without a sample: %+v", st)
	}
	b.record("a", at(2), at(3), primary, nil)
	if got, want := out.Load().Primary, (replication.Sample{Epoch: 2, SentAt: at(2), Flush: 100, Insert: 100}); got != want {
		t.Errorf("sample: got %+v, want %+v", got, want)
	}
	b.record("b", at(4), at(5), standby, nil)
	if st := out.Load().Status("b"); st.LagBytes != 20 || st.Lag != 2 || st.SyncState != "quorum" || st.AskedAt != at(4) || st.At != at(5) {
		t.Errorf("lag: %+v", st)
	}
	for i := range replication.Instant(20) {
		primary.status.Received++
		b.record("a", at(0)+100+i, at(0)+100+i, primary, nil)
	}
	if got := out.Load(); len(got.Earlier) != earlierSamples || got.Primary.Flush != 120 || got.Earlier[0].Flush != 110 {
		t.Errorf("samples: got %+v before %+v", got.Earlier, got.Primary)
	}
	unasked := primary
	unasked.syncState = nil
	b.record("a", at(0)+120, at(0)+120, unasked, nil)
	b.record("b", at(0)+121, at(0)+121, standby, nil)
	if got := out.Load().Status("b").SyncState; got != "quorum" {
		t.Errorf("the primary was not asked who follows it: got %q, want quorum as before", got)
	}
	before := out.Load()
	b.record("b", at(6), at(7), answer{}, errors.New("gone"))
	if st := out.Load().Status("b"); st.Reachable || st.Replayed != 80 || st.Lag != -1 {
		t.Errorf("unreachable: %+v", st)
	}
	if !before.Status("b").Reachable {
		t.Error("a published board changed")
	}

	other := primary
	other.status.Timeline = 4
	b.record("a", at(8), at(9), other, nil)
	if got := out.Load().Primary.SentAt; got != at(0)+120 {
		t.Errorf("a primary on another timeline gave a sample: %v", got)
	}
	view.Epoch, view.Open = 3, false
	b.follow(view)
	b.record("a", at(10), at(11), primary, nil)
	if got := out.Load(); got.Primary != (replication.Sample{}) || len(got.Earlier) != 0 {
		t.Errorf("a sample before the primary of the epoch is open: %+v", got)
	}
	b.forget("b")
	if _, ok := out.Load().Nodes["b"]; ok {
		t.Error("b is still on the board")
	}
}

// However often the primary is asked while it writes all the time, the ring covers seconds, so that a standby far behind
// does not look near.
func TestHistoryCoversSecondsOfHaste(t *testing.T) {
	var h history
	const written, asked = 20 * time.Second, 2 * time.Millisecond
	for i := range int(written / asked) {
		h.add(at(time.Duration(i)*asked), replication.LSN(1000+i))
	}
	if _, behind := h.lag(1000, at(written)); behind < written-time.Second {
		t.Errorf("a standby that is %v behind: got %v", written, behind)
	}
}
