package session

import (
	mathbits "math/bits"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/replication"
)

// Meter counts what sessions do on the servers of one pool, since the process began: one for each node, database, user
// and role. Sessions and drivers only add to it, without locks or allocations; anybody may read it at any time. A nil
// Meter counts nothing.
type Meter struct {
	Wait        Histogram // from the first wish for a server to its grant, once per grant
	Turn        Histogram // from the first byte written to the server to ReadyForQuery
	Transaction Histogram // the same, to the ReadyForQuery that says that no transaction is open

	ToServers    atomic.Uint64 // bytes; counted by drivers
	FromServers  atomic.Uint64 // bytes; counted by drivers
	ClientParses atomic.Uint64 // Parse messages of clients
	ServerParses atomic.Uint64 // Parse messages that servers were sent: for clients, or to prepare again what they lack
	Binds        atomic.Uint64
	Retries      atomic.Uint64 // turns that were taken away from the server, to run again elsewhere
	Cancels      atomic.Uint64 // CancelRequests for the server; counted by the pool
	Discards     atomic.Uint64 // server connections that were given back to be closed; counted by the pool
	Latency      *Latency      // of the node; nil: nobody wants to know
	Health       *Health       // likewise
	Errors       Codes         // of the servers, passed on to clients
}

// Bucket bounds of every Histogram: 100 microseconds doubled up to 52 seconds; one more bucket has no bound.
const (
	firstBound = 100 * time.Microsecond
	bounds     = 20
)

// Histogram is a distribution of durations.
type Histogram struct {
	buckets [bounds + 1]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

// Observe adds one duration; a negative one counts as none.
func (h *Histogram) Observe(d time.Duration) {
	if d <= 0 {
		h.buckets[0].Add(1)
		return
	}
	h.buckets[min(mathbits.Len64(uint64((d-1)/firstBound)), bounds)].Add(1)
	h.sum.Add(int64(d))
}

// HistogramCounts is what a Histogram has seen: Buckets[i] durations were at most Bound(i) and more than Bound(i-1).
type HistogramCounts struct {
	Buckets [bounds + 1]uint64
	Count   uint64
	Sum     time.Duration
}

// Bound returns the upper bound of bucket i; ok is false for the last, which has none.
func Bound(i int) (d time.Duration, ok bool) {
	if i >= bounds {
		return 0, false
	}
	return firstBound << i, true
}

// Counts reads the histogram. What is observed meanwhile may be in one part of the result and not in another.
func (h *Histogram) Counts() HistogramCounts {
	var c HistogramCounts
	for i := range h.buckets {
		c.Buckets[i] = h.buckets[i].Load()
		c.Count += c.Buckets[i]
	}
	c.Sum = time.Duration(h.sum.Load())
	return c
}

// Add adds other to c.
func (c *HistogramCounts) Add(other *HistogramCounts) {
	for i := range c.Buckets {
		c.Buckets[i] += other.Buckets[i]
	}
	c.Count += other.Count
	c.Sum += other.Sum
}

// Latency is a moving average of how long turns take on a node. Two that are observed at the same moment may count as one:
// it is a figure for choosing, not for accounts.
type Latency struct {
	average atomic.Int64 // nanoseconds
	at      atomic.Int64 // replication.Instant of the last one
}

func (l *Latency) observe(d time.Duration, now replication.Instant) {
	if l == nil || d < 0 {
		return
	}
	old := l.average.Load()
	if old == 0 {
		old = int64(d)
	}
	l.average.Store(old + (int64(d)-old)/16)
	l.at.Store(int64(now))
}

// latencyHalves is how long an average that nothing is added to takes to come down to a half: a node that was slow is
// tried again.
const latencyHalves = 5 * time.Second

// Average returns the average as it counts at now.
func (l *Latency) Average(now replication.Instant) time.Duration {
	age := now.Sub(replication.Instant(l.at.Load()))
	return time.Duration(l.average.Load() >> min(max(age/latencyHalves, 0), 62))
}

// maxCodes bounds the SQLSTATEs that one Codes tells apart: statements can raise any.
const maxCodes = 32

// Codes counts errors by SQLSTATE; those beyond the limit, and what is no SQLSTATE, are counted together.
type Codes struct {
	codes [maxCodes]struct {
		code atomic.Uint64 // the five characters; 0: free
		n    atomic.Uint64
	}
	others atomic.Uint64
}

// Add counts one error. A nil Codes counts nothing.
func (c *Codes) Add(sqlstate []byte) {
	if c == nil {
		return
	}
	if len(sqlstate) != 5 {
		c.others.Add(1)
		return
	}
	var code uint64
	for _, b := range sqlstate {
		code = code<<8 | uint64(b)
	}
	for i := range c.codes {
		slot := &c.codes[i]
		found := slot.code.Load()
		if found == 0 && !slot.code.CompareAndSwap(0, code) {
			found = slot.code.Load()
		}
		if found == 0 || found == code {
			slot.n.Add(1)
			return
		}
	}
	c.others.Add(1)
}

// Each calls f with every SQLSTATE that was counted; "" stands for all that are not told apart.
func (c *Codes) Each(f func(sqlstate string, n uint64)) {
	for i := range c.codes {
		code, n := c.codes[i].code.Load(), c.codes[i].n.Load()
		if n == 0 {
			continue
		}
		f(string([]byte{byte(code >> 32), byte(code >> 24), byte(code >> 16), byte(code >> 8), byte(code)}), n)
	}
	if n := c.others.Load(); n > 0 {
		f("", n)
	}
}

// stopwatch holds the times that a Meter needs of a session with a server; 0 is none.
type stopwatch struct {
	turn        replication.Instant // when the oldest turn that is owed an answer began
	transaction replication.Instant // when the first of them did that belongs to the open transaction
}

// start notes that something is being written to the server.
func (w *stopwatch) start(now replication.Instant) {
	if w.turn == 0 {
		w.turn = now
	}
	if w.transaction == 0 {
		w.transaction = now
	}
}

// answered counts a turn that has been answered, and the transaction if it ended with it. more tells that other turns
// are owed answers already: their time begins here.
func (m *Meter) answered(w *stopwatch, now replication.Instant, ended, more bool) {
	if m != nil {
		m.Turn.Observe(now.Sub(w.turn))
		m.Latency.observe(now.Sub(w.turn), now)
		if ended {
			m.Transaction.Observe(now.Sub(w.transaction))
		}
	}
	w.turn = 0
	if ended {
		w.transaction = 0
	}
	if more {
		w.start(now)
	}
}

func (m *Meter) waited(d time.Duration) {
	if m != nil {
		m.Wait.Observe(d)
	}
}

// clientParse counts a client's Parse.
func (m *Meter) clientParse() {
	if m != nil {
		m.ClientParses.Add(1)
	}
}

func (m *Meter) serverParse() {
	if m != nil {
		m.ServerParses.Add(1)
	}
}

func (m *Meter) bound() {
	if m != nil {
		m.Binds.Add(1)
	}
}

func (m *Meter) retried() {
	if m != nil {
		m.Retries.Add(1)
	}
}

func (m *Meter) failed(sqlstate []byte) {
	if m != nil {
		m.Errors.Add(sqlstate)
	}
}

// Sent counts bytes written to the servers. A nil Meter counts nothing.
func (m *Meter) Sent(n int) {
	if m != nil && n > 0 {
		m.ToServers.Add(uint64(n))
	}
}

// Received counts bytes read from the servers. A nil Meter counts nothing.
func (m *Meter) Received(n int) {
	if m != nil {
		m.FromServers.Add(uint64(n))
	}
}
