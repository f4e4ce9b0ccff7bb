package monitor

import (
	"maps"
	"sync"
	"time"

	"github.com/walgate/walgate/replication"
)

// board joins the answers of all members and publishes a new snapshot at each change.
type board struct {
	out *replication.Feed[replication.StatusBoard]

	mu        sync.Mutex // guards what follows; published under it, so that snapshots never go back
	view      replication.View
	nodes     map[replication.NodeID]replication.Status
	syncState map[replication.NodeID]string // by the primary's last answer
	sample    replication.Sample
	earlier   []replication.Sample // never changed once published
	past      history
}

func newBoard(out *replication.Feed[replication.StatusBoard]) *board {
	return &board{out: out, nodes: map[replication.NodeID]replication.Status{}}
}

// follow takes over a new view. Samples and lags of another epoch mean nothing any more.
func (b *board) follow(view replication.View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if view.Epoch != b.view.Epoch || view.Primary != b.view.Primary {
		b.sample, b.earlier, b.past, b.syncState = replication.Sample{}, nil, history{}, nil
	}
	b.view = view
	b.publish()
}

func (b *board) forget(name replication.NodeID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, name)
	b.publish()
}

// record notes an answer, or that there was none.
func (b *board) record(name replication.NodeID, askedAt, at replication.Instant, a answer, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		st := b.nodes[name]
		st.Node, st.Reachable, st.Streaming = name, false, false
		st.LagBytes, st.Lag, st.SyncState = -1, -1, ""
		b.nodes[name] = st
		b.publish()
		return
	}
	st := a.status
	st.Node, st.AskedAt, st.At = name, askedAt, at
	switch {
	case b.speaksForEpoch(st):
		sample := replication.Sample{Epoch: b.view.Epoch, SentAt: askedAt, Flush: st.Received, Insert: max(a.insert, st.Received)}
		if a.async {
			sample.Flush = sample.Insert
		}
		b.take(sample)
		b.past.add(askedAt, st.Received)
		if a.syncState != nil {
			b.syncState = a.syncState
		}
	case st.Role == replication.RoleStandby:
		st.LagBytes, st.Lag = -1, -1
		if b.sample.Flush.Known() && st.Timeline == b.view.Timeline {
			st.LagBytes, st.Lag = b.past.lag(st.Replayed, askedAt)
		}
		st.SyncState = b.syncState[name]
	default:
		st.LagBytes, st.Lag = -1, -1 // a primary that the view does not know, or not yet
	}
	b.nodes[name] = st
	b.publish()
}

// earlierSamples is how many samples besides the newest are published: half a second at the active period of 50 ms, so
// that a session which wrote a while ago need not wait for what others write now.
const earlierSamples = 10

// take makes s the newest sample.
func (b *board) take(s replication.Sample) {
	if b.sample.Flush.Known() {
		kept := b.earlier[max(0, len(b.earlier)+1-earlierSamples):]
		b.earlier = append(append(make([]replication.Sample, 0, len(kept)+1), kept...), b.sample)
	}
	b.sample = s
}

// speaksForEpoch reports whether the status is that of the view's open primary: a node of that name on another
// timeline has claimed a newer epoch that the view does not show yet, or belongs to an older one.
func (b *board) speaksForEpoch(st replication.Status) bool {
	return st.Role == replication.RolePrimary && st.Node == b.view.Primary && b.view.Open &&
		st.Timeline == b.view.Timeline && st.Received.Known()
}

func (b *board) publish() {
	b.out.Publish(replication.StatusBoard{Nodes: maps.Clone(b.nodes), Primary: b.sample, Earlier: b.earlier})
}

// history is a ring of the primary's flush positions by our clock, oldest first from next on.
type history struct {
	points [historyLength]point
	length int
	next   int
}

// With a point every historyStep, however often the primary is asked, the ring covers 20 s of constant writing.
const (
	historyLength = 2048
	historyStep   = 10 * time.Millisecond
)

// point: the primary's flush position was flush at every question sent from first to last.
type point struct {
	first, last replication.Instant
	flush       replication.LSN
}

// at returns the i-th newest point, from 0.
func (h *history) at(i int) *point {
	return &h.points[(h.next-1-i+2*historyLength)%historyLength]
}

func (h *history) add(sentAt replication.Instant, flush replication.LSN) {
	if h.length > 0 && h.at(0).flush == flush {
		h.at(0).last = sentAt
		return
	}
	if h.length > 0 && sentAt.Sub(h.at(0).first) < historyStep {
		return
	}
	h.points[h.next] = point{first: sentAt, last: sentAt, flush: flush}
	h.next = (h.next + 1) % historyLength
	h.length = min(h.length+1, historyLength)
}

// lag returns how far a standby that had replayed the position, when asked at the instant, was behind what the primary
// was known to have flushed by then: 0 when it had all of that, however long ago the last write was. Beyond the ring
// the time is a lower bound; -1 means that nothing can be said.
func (h *history) lag(replayed replication.LSN, asked replication.Instant) (bytes int64, behind time.Duration) {
	bytes, behind = -1, -1
	for i := range h.length {
		p := h.at(i)
		if asked.Before(p.first) {
			continue // learned after the standby was asked
		}
		if bytes < 0 {
			if bytes = p.flush.BytesPast(replayed); bytes == 0 {
				return 0, 0
			}
		}
		if p.flush <= replayed {
			return bytes, asked.Sub(p.last)
		}
		behind = asked.Sub(p.first)
	}
	return bytes, behind
}
