package ha

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/walgate/walgate/replication"
)

// sim is one run: a whole cluster in virtual time, everything drawn from one seed.
type sim struct {
	rng    *rand.Rand
	now    time.Duration // true time
	events events
	seq    int
	trace  func(format string, args ...any)

	timing  Timing
	rules   Rules
	mode    SyncMode
	quorum  int
	onCrash string

	store   *simStore
	nodes   []*simNode
	proxies []*simProxy

	cut       map[[2]int]time.Duration // directed link -> until; the store is -1, proxies are 100+
	faulty    bool                     // faults still happen
	suspends  bool                     // this seed knows faults after which nothing is promised of the writers (S2)
	loss      bool                     // S5 is not checked
	blind     bool                     // and one has happened
	acked     []*simCommit             // acknowledged to a client, in synchronous modes
	commits   int
	claims    int
	failure   string
	branches  int
	lastAcked pos // the furthest acknowledged commit
	handoffs  int
}

type event struct {
	at  time.Duration
	seq int
	fn  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1].fn = nil
	*e = old[:len(old)-1]
	return last
}

// after runs fn d later in true time.
func (s *sim) after(d time.Duration, fn func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + d, s.seq, fn})
}

// run goes on until the true time, or the first violation.
func (s *sim) run(until time.Duration) {
	for len(s.events) > 0 && s.events[0].at <= until && s.failure == "" {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.fn()
	}
	if s.failure == "" {
		s.now = until
	}
}

// fail records a violated invariant; the first one ends the run.
func (s *sim) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf("at %v: ", s.now) + fmt.Sprintf(format, args...)
		s.logf("VIOLATION %s", s.failure)
	}
}

func (s *sim) logf(format string, args ...any) {
	if s.trace != nil {
		s.trace("%10.3fs  %s", s.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// between draws a duration.
func (s *sim) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

// chance is true with probability p.
func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

// up reports whether messages get from one place to the other now.
func (s *sim) up(from, to int) bool { return from == to || s.cut[[2]int{from, to}] <= s.now }

// cutLink stops messages one way for a while.
func (s *sim) cutLink(from, to int, d time.Duration) {
	s.cut[[2]int{from, to}] = max(s.cut[[2]int{from, to}], s.now+d)
}

// latency draws the time of one message.
func (s *sim) latency() time.Duration {
	switch {
	case s.chance(0.02):
		return s.between(10*time.Millisecond, 100*time.Millisecond)
	default:
		return s.between(200*time.Microsecond, 2*time.Millisecond)
	}
}

// clock is one machine's CLOCK_BOOTTIME.
type clock struct {
	offset       time.Duration
	rate         float64
	stopped      replication.Instant // what it shows until stoppedUntil
	stoppedUntil time.Duration
}

func (s *sim) newClock() clock {
	return clock{offset: s.between(time.Hour, 100*time.Hour), rate: 1 + (s.rng.Float64()-0.5)*0.01}
}

func (c clock) read(now time.Duration) replication.Instant {
	if now < c.stoppedUntil {
		return c.stopped
	}
	return replication.Instant(float64(now)*c.rate) + replication.Instant(c.offset)
}

// until returns the true time that is left until the instant.
func (c clock) until(at replication.Instant, now time.Duration) time.Duration {
	return max(0, c.stoppedUntil-now, time.Duration(float64(at-replication.Instant(c.offset))/c.rate)-now) + time.Microsecond
}

// simStore is the linearizable store.
type simStore struct {
	s           *sim
	pausedUntil time.Duration // a leader change: nothing is answered
	rev         int64
	init        replication.NodeID
	initUntil   time.Duration
	record      *Record
	recordRev   int64
	beat        *Beat
	beatRev     int64
	votesAt     map[voteKey]VersionedVote
	ledger      []LedgerEntry
	nodes       map[replication.NodeID]registered[NodeReport]
	proxies     map[string]registered[ProxyReport]
	watchers    []func()
}

type voteKey struct {
	epoch replication.Epoch
	node  replication.NodeID
}

type registered[T any] struct {
	value T
	until time.Duration
}

func (st *simStore) bump() int64 {
	st.rev++
	for _, w := range st.watchers {
		st.s.after(st.s.latency(), w)
	}
	return st.rev
}

// call carries out op at the store and done at the caller: known false after the time limit. Requests and answers may
// be lost or late; a request whose caller gave up may still be carried out.
func (s *sim) call(from int, limit time.Duration, op func(), done func(known bool)) {
	s.slowCall(0.01, from, limit, op, done)
}

// slowCall is call with the chance of a request that is very late.
func (s *sim) slowCall(slow float64, from int, limit time.Duration, op func(), done func(known bool)) {
	answered := false
	finish := func(known bool) {
		if !answered {
			answered = true
			done(known)
		}
	}
	s.after(limit, func() { finish(false) })
	if !s.up(from, -1) {
		return
	}
	d := s.latency()
	if s.faulty && s.chance(slow) {
		d = s.between(0, 4*time.Second)
	}
	s.after(d, func() { s.arrive(from, op, finish) })
}

func (s *sim) arrive(from int, op func(), finish func(bool)) {
	if wait := s.store.pausedUntil - s.now; wait > 0 {
		s.after(wait+s.latency(), func() { s.arrive(from, op, finish) })
		return
	}
	op()
	if s.up(-1, from) {
		s.after(s.latency(), func() { finish(true) })
	}
}

// snapshot is what one linearizable read returns.
type snapshot struct {
	init      replication.NodeID
	record    *Record
	recordRev int64
	beat      *Beat
	beatRev   int64
	votes     []VersionedVote
	ledger    []LedgerEntry
	nodes     []NodeReport
	proxies   []ProxyReport
}

func (st *simStore) read() snapshot {
	snap := snapshot{record: st.record, recordRev: st.recordRev, beat: st.beat, beatRev: st.beatRev, ledger: st.ledger}
	if st.initUntil > st.s.now {
		snap.init = st.init
	}
	for _, n := range st.s.nodes {
		if st.record != nil {
			if v, ok := st.votesAt[voteKey{st.record.Epoch + 1, n.name}]; ok {
				snap.votes = append(snap.votes, v)
			}
		}
		if r, ok := st.nodes[n.name]; ok && r.until > st.s.now {
			snap.nodes = append(snap.nodes, r.value)
		}
	}
	for _, p := range st.s.proxies {
		if r, ok := st.proxies[p.id]; ok && r.until > st.s.now {
			snap.proxies = append(snap.proxies, r.value)
		}
	}
	return snap
}

// apply carries out a move of a lease hand; ok is false when a compare failed.
func (st *simStore) apply(m LeaseMove, by *simNode) (ok bool) {
	switch m.Kind {
	case LeaseTakeInit:
		if st.initUntil > st.s.now && st.init != by.name {
			return false
		}
		st.init, st.initUntil = by.name, st.s.now+10*time.Second
		st.bump()
	case LeaseBootstrap:
		if st.record != nil || st.init != by.name {
			return false
		}
		st.put(m.Record)
	case LeaseJoin, LeaseWrite:
		if st.recordRev != m.RecordRev {
			return false
		}
		st.put(m.Record)
	case LeaseRenew, LeaseRelease:
		if st.beatRev != m.BeatRev {
			return false
		}
		st.beat, st.beatRev = m.Beat, st.bump()
	case LeaseVote:
		k := voteKey{m.Vote.Epoch, m.Vote.Node}
		if st.votesAt[k].Rev != m.VoteRev {
			return false
		}
		st.votesAt[k] = VersionedVote{*m.Vote, st.bump()}
	case LeaseUnvote:
		st.votesAt[voteKey{m.Vote.Epoch, m.Vote.Node}] = VersionedVote{*m.Vote, st.bump()}
	case LeaseClaim:
		return st.claim(m, by)
	case LeaseOpen:
		if st.recordRev != m.RecordRev || st.beatRev != m.BeatRev {
			return false
		}
		for _, e := range st.ledger {
			if e.Epoch == m.Entry.Epoch {
				return false
			}
		}
		st.put(m.Record)
		st.ledger = append(st.ledger[:len(st.ledger):len(st.ledger)], *m.Entry)
		st.s.opened(by)
	}
	return true
}

func (st *simStore) put(r *Record) {
	st.record, st.recordRev = r, st.bump()
	st.s.checkQuorum("record")
}

func (st *simStore) claim(m LeaseMove, by *simNode) bool {
	if st.recordRev != m.RecordRev || st.beatRev != m.BeatRev {
		return false
	}
	for _, c := range m.Counted {
		if st.votesAt[voteKey{m.Record.Epoch, c.Node}].Rev != c.Rev {
			return false
		}
	}
	st.beat, st.beatRev = m.Beat, st.bump()
	st.s.claims++
	st.s.logf("CLAIM epoch %d by %s: %s", m.Record.Epoch, by.name, m.Record.Last.Reason)
	st.put(m.Record)
	return true
}
