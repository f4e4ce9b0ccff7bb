package ha

import (
	"fmt"
	"time"

	"github.com/walgate/walgate/replication"
)

// simProxy follows the store, and lets writes through the gate.
type simProxy struct {
	s     *sim
	index int
	id    string
	clock clock

	record   *Record
	beat     *Beat
	lastOld  replication.Instant // send time of the last read that still showed an older beat
	readAt   replication.Instant
	gate     replication.Gate
	open     map[int]bool // turns on the primary
	turns    int
	draining string
	frozen   time.Duration
}

func (p *simProxy) now() replication.Instant { return p.clock.read(p.s.now) }

// do runs fn d later, or when the proxy thaws.
func (p *simProxy) do(d time.Duration, fn func()) {
	var step func()
	step = func() {
		if wait := p.frozen - p.s.now; wait > 0 {
			p.s.after(wait+p.s.between(0, 5*time.Millisecond), step)
			return
		}
		fn()
	}
	p.s.after(d, step)
}

// read is the proxy's loop: linearizable reads every R; the deadline counts from the read before the change.
func (p *simProxy) read() {
	sent := p.now()
	var snap snapshot
	report := ProxyReport{ID: p.id, HandoffID: p.draining, OpenTx: len(p.open)}
	p.s.call(p.index, p.s.timing.RPC, func() {
		snap = p.s.store.read()
		p.s.store.proxies[p.id] = registered[ProxyReport]{report, p.s.now + 10*time.Second}
	}, func(known bool) {
		p.do(0, func() {
			if known && sent > p.readAt {
				p.learn(snap, sent)
			}
		})
	})
	p.do(p.s.between(200*time.Millisecond, p.s.timing.Renew), p.read)
}

func (p *simProxy) learn(snap snapshot, sent replication.Instant) {
	rec, beat := snap.record, snap.beat
	if rec == nil || beat == nil {
		return
	}
	before, lastRead := p.beat, p.readAt
	p.record, p.beat, p.readAt = rec, beat, sent
	if before != nil && (before.Nonce != beat.Nonce || before.N != beat.N) {
		p.lastOld = lastRead
	}
	if p.lastOld > 0 {
		hold := p.s.timing.TTL - p.s.timing.Margin
		if !p.s.rules.Margin {
			hold = 2 * p.s.timing.TTL
		}
		p.gate.Set(replication.Grant{Epoch: beat.Epoch, Deadline: p.lastOld.Add(hold)})
	}
	p.draining = ""
	if v := rec.View(); v.Handoff.Draining {
		p.draining = rec.Handoff.ID
		if v.Handoff.CancelOpen {
			p.open = map[int]bool{}
		}
	}
}

// client writes through the proxy, one transaction after another.
func (p *simProxy) client() {
	s := p.s
	p.do(s.between(20*time.Millisecond, 120*time.Millisecond), p.client)
	rec := p.record
	if rec == nil || !rec.View().Writable() || !p.gate.Allows(rec.Epoch, p.now()) {
		return
	}
	epoch, n := rec.Epoch, s.nodes[s.index(rec.Primary)]
	if !s.up(p.index, n.index) || n.pg.epoch != epoch {
		return
	}
	p.turns++
	turn := p.turns
	p.open[turn] = true
	done := func() { delete(p.open, turn) }
	s.after(5*time.Second, done)
	s.after(s.latency(), func() {
		if !n.doorOpen() || n.pg.epoch != epoch {
			done()
			return
		}
		n.commit(func() {
			c := n.pg.pos
			s.after(s.latency(), func() {
				if s.up(n.index, p.index) {
					p.do(0, func() { done(); p.pass(epoch, c) })
				}
			})
		})
	})
}

// pass forwards an acknowledgement if the gate lets it: S3.
func (p *simProxy) pass(epoch replication.Epoch, at pos) {
	if !p.gate.Allows(epoch, p.now()) {
		return
	}
	if rec := p.s.store.record; rec.Epoch > epoch && !p.s.holds(rec, at) {
		p.s.fail("S3: %s passes an acknowledgement of epoch %d, but %s has claimed epoch %d without it", p.id, epoch, rec.Primary, rec.Epoch)
	}
}

// direct writes past all doors to a random server.
func (s *sim) direct() {
	s.after(s.between(10*time.Millisecond, 60*time.Millisecond), s.direct)
	s.nodes[s.rng.IntN(len(s.nodes))].commit(func() {})
}

// newSim builds a cluster that has not been bootstrapped.
func newSim(c simConfig) *sim {
	s := &sim{
		rng: newRand(c.seed), trace: c.trace, timing: DefaultTiming(), rules: c.rules, faulty: true, loss: c.loss,
		cut: map[[2]int]time.Duration{}, quorum: 1,
	}
	s.store = &simStore{
		s: s, votesAt: map[voteKey]VersionedVote{}, nodes: map[replication.NodeID]registered[NodeReport]{},
		proxies: map[string]registered[ProxyReport]{},
	}
	count := 3
	if s.chance(0.4) {
		count = 5
	}
	s.mode = []SyncMode{SyncQuorum, SyncQuorum, SyncStrict, SyncOff}[s.rng.IntN(4)]
	if c.mode != "" {
		s.mode = c.mode
	}
	if count == 5 && s.chance(0.5) {
		s.quorum = 2
	}
	s.suspends = s.chance(0.2)
	s.onCrash = []string{"failover", "restart", "auto"}[s.rng.IntN(3)]
	for i := range count {
		n := &simNode{s: s, index: i, name: replication.NodeID(fmt.Sprintf("n%d", i+1)), clock: s.newClock()}
		n.pg = simPostgres{dir: DirectoryAbsent, proc: ProcessStopped, standbys: map[int]*sender{}, follows: -1}
		if count == 5 && i == 4 && s.chance(0.3) {
			n.tags = map[string]string{"nofailover": "true"}
		}
		s.nodes = append(s.nodes, n)
		s.store.watchers = append(s.store.watchers, func() {
			if n.up && s.up(-1, n.index) && !s.chance(0.1) {
				n.agentDo(0, n.read)
			}
		})
		s.after(s.between(0, time.Second), n.boot)
	}
	for i := range 2 {
		p := &simProxy{s: s, index: 100 + i, id: fmt.Sprintf("p%d", i), clock: s.newClock(), open: map[int]bool{}}
		s.proxies = append(s.proxies, p)
		p.read()
		p.client()
	}
	s.direct()
	s.watch()
	return s
}
