package ha

import (
	"fmt"
	"time"

	"github.com/walgate/walgate/replication"
)

// simNode is one machine: an agent, its PostgreSQL and the guard between them.
type simNode struct {
	s     *sim
	index int
	name  replication.NodeID
	clock clock
	pg    simPostgres
	tags  map[string]string

	frozenUntil time.Duration // the whole machine
	thawedAt    time.Duration

	// The agent.
	up          bool
	inc         int
	agentFrozen time.Duration
	known       bool
	snap        snapshot
	readAt      replication.Instant
	reading     bool
	readAgain   bool
	seen        struct {
		beatRev    int64
		beat       replication.Instant
		epoch      replication.Epoch
		epochAt    replication.Instant
		handoff    string
		handoffAt  replication.Instant
		phase      HandoffPhase
		phaseAt    replication.Instant
		votes      string
		votesSince replication.Instant
	}
	lease     Lease
	sent      map[uint64]replication.Instant
	leaseBusy bool
	pgBusy    bool
	pgMove    PostgresMove
	pgMoveInc int
	retryAt   replication.Instant
	poked     bool
	wakeInc   int
	facts     Instance
	factsAt   time.Duration
	last      Decision

	// The guard.
	guardNonce string
	guardEpoch replication.Epoch
	guardSent  replication.Instant
	guardN     uint64
	killAt     replication.Instant
	guardInc   int
}

func (n *simNode) now() replication.Instant { return n.clock.read(n.s.now) }

// agentDo runs fn for this incarnation of the agent, after a thaw if it is frozen.
func (n *simNode) agentDo(d time.Duration, fn func()) {
	inc := n.inc
	var step func()
	step = func() {
		if n.inc != inc || !n.up {
			return
		}
		if wait := max(n.frozenUntil, n.agentFrozen) - n.s.now; wait > 0 {
			n.s.after(wait+n.s.between(0, 10*time.Millisecond), step)
			return
		}
		fn()
	}
	n.s.after(d, step)
}

// boot starts the agent.
func (n *simNode) boot() {
	if n.up {
		return
	}
	n.inc++
	n.up, n.known, n.reading, n.leaseBusy, n.pgBusy, n.poked = true, false, false, false, false, false
	n.snap, n.last, n.sent, n.factsAt = snapshot{}, Decision{}, map[uint64]replication.Instant{}, -1
	n.seen.beatRev, n.seen.epoch, n.seen.handoff, n.seen.votes = -1, 0, "", "-"
	n.seen.epochAt = 0
	n.lease = Lease{NextN: 1}
	if n.pg.proc != ProcessStopped && n.pg.guard && n.guardNonce != "" {
		n.lease = Lease{Nonce: n.guardNonce, Epoch: n.guardEpoch, SentAt: n.guardSent, N: n.guardN, NextN: n.guardN + 100, RecordRisk: -1}
	}
	n.pgMoveInc++
	n.s.logf("%s: agent starts", n.name)
	n.loop()
	n.report()
}

func (n *simNode) loop() {
	n.read()
	n.agentDo(n.s.between(150*time.Millisecond, 300*time.Millisecond), n.loop)
	n.poke()
}

// crash ends the agent; PostgreSQL and the guard go on.
func (n *simNode) crash() {
	n.up = false
	n.inc++
	n.s.logf("%s: agent is dead", n.name)
}

// poke asks for a decision soon.
func (n *simNode) poke() {
	if n.poked || !n.up {
		return
	}
	n.poked = true
	n.agentDo(n.s.between(0, 2*time.Millisecond), func() { n.poked = false; n.tick() })
}

// report keeps the registration alive.
func (n *simNode) report() {
	r := NodeReport{Name: n.name, State: n.state(), Timeline: 0}
	if n.pg.pos.b != nil {
		r.Timeline = n.pg.pos.b.timeline
	}
	n.s.call(n.index, n.s.timing.RPC, func() {
		n.s.store.nodes[n.name] = registered[NodeReport]{r, n.s.now + 4*time.Second}
	}, func(bool) {})
	n.agentDo(time.Second, n.report)
}

func (n *simNode) state() string {
	switch {
	case n.pgBusy && (n.pgMove.Kind == PostgresClone || n.pgMove.Kind == PostgresReclone):
		return "cloning"
	case n.pgBusy && n.pgMove.Kind == PostgresRewind:
		return "rewinding"
	case n.pg.proc == ProcessRunning && n.pg.inRecovery && n.pg.streams:
		return "streaming"
	case n.pg.proc == ProcessRunning:
		return "running"
	default:
		return string(n.pg.proc)
	}
}

// read fetches a snapshot: one at a time, and once more if asked for meanwhile.
func (n *simNode) read() {
	if n.reading {
		n.readAgain = true
		return
	}
	n.reading, n.readAgain = true, false
	sent := n.now()
	var snap snapshot
	n.s.call(n.index, n.s.timing.RPC, func() { snap = n.s.store.read() }, func(known bool) {
		n.agentDo(0, func() {
			n.reading = false
			if known {
				n.learn(snap, sent)
			}
			if n.readAgain {
				n.read()
			}
		})
	})
}

// learn takes over a snapshot, and notes when its facts were first seen.
func (n *simNode) learn(snap snapshot, sent replication.Instant) {
	if sent < n.readAt && n.known {
		return
	}
	now := n.now()
	first := !n.known
	n.known, n.snap, n.readAt = true, snap, sent
	if snap.beatRev != n.seen.beatRev {
		n.seen.beatRev, n.seen.beat = snap.beatRev, now
	}
	if b := snap.beat; b != nil && b.Holder == n.name && b.Nonce == n.lease.Nonce && b.N > n.lease.N {
		if at, ok := n.sent[b.N]; ok {
			n.lease.N, n.lease.SentAt, n.lease.Epoch = b.N, at, b.Epoch
		}
	}
	if r := snap.record; r != nil {
		if first {
			n.lease.VoteRisk = r.Epoch + 1
			if n.lease.RecordRisk == -1 {
				n.lease.RecordRisk = snap.recordRev
			}
		}
		if r.Epoch != n.seen.epoch || first {
			n.seen.epoch, n.seen.epochAt = r.Epoch, now
			n.pg.facts = nil
		}
		id, phase := "", HandoffPhase("")
		if r.Handoff != nil {
			id, phase = r.Handoff.ID, r.Handoff.Phase
		}
		if id != n.seen.handoff {
			n.seen.handoff, n.seen.handoffAt, n.seen.phase = id, now, ""
		}
		if phase != n.seen.phase {
			n.seen.phase, n.seen.phaseAt = phase, now
		}
	}
	votes := ""
	for _, v := range snap.votes {
		votes += fmt.Sprint(v.Vote.Node, v.Rev, " ")
	}
	if votes != n.seen.votes {
		n.seen.votes, n.seen.votesSince = votes, now
	}
	n.poke()
}

// observation gathers what Decide asks for.
func (n *simNode) observation() Observation {
	if n.factsAt < 0 || n.s.now-n.factsAt > 20*time.Millisecond || n.s.chance(0.5) {
		n.facts, n.factsAt = n.observe(), n.s.now
		n.facts.RetryAt = n.retryAt
	}
	o := Observation{
		Now: n.now(), Self: Member{Name: n.name, Host: "h", Port: 1, Tags: n.tags}, Nonce: fmt.Sprintf("%s-%d", n.name, n.inc),
		Timing: n.s.timing, Rules: n.s.rules, Lease: n.lease, Instance: n.facts,
		Store: Store{
			Known: n.known, ReadAt: n.readAt, InitHolder: n.snap.init, Record: n.snap.record, RecordRev: n.snap.recordRev,
			Beat: n.snap.beat, BeatRev: n.snap.beatRev, BeatSince: n.seen.beat, EpochSince: n.seen.epochAt,
			HandoffSince: n.seen.handoffAt, PhaseSince: n.seen.phaseAt, Votes: n.snap.votes, VotesSince: n.seen.votesSince,
			Ledger: n.snap.ledger, Proxies: n.snap.proxies, Nodes: n.snap.nodes,
		},
		Hands: Hands{
			Lease: HandState{Busy: n.leaseBusy}, Postgres: HandState{Busy: n.pgBusy}, PostgresMove: n.pgMove,
		},
		Defaults: Bootstrap{Cluster: "sim", Sync: Sync{Mode: n.s.mode, Quorum: n.s.quorum}, Settings: Settings{
			TTL: n.s.timing.TTL, MaximumLag: 50, OnCrash: n.s.onCrash, ColdStartWait: 15 * time.Second,
		}},
	}
	return o
}

func (n *simNode) tick() {
	o := n.observation()
	d := Decide(o)
	if n.s.trace != nil && (d.Why != n.last.Why || d.Door != n.last.Door) {
		n.s.logf("%s: %s [%s/%s door %v]", n.name, d.Why, d.Lease.Kind, d.Postgres.Kind, d.Door)
	}
	n.last = d
	n.guardHears(d.KillAt)
	if d.Lease.Kind != LeaseKeep && !n.leaseBusy {
		n.leaseHand(d.Lease)
	}
	if k := d.Postgres.Kind; k != PostgresLeave && (!n.pgBusy || k == PostgresKillWhole && n.pgMove.Kind != PostgresKillWhole) {
		n.postgresHand(d.Postgres)
	}
	n.wakeInc++
	if inc := n.wakeInc; d.WakeAt > 0 {
		n.agentDo(n.clock.until(d.WakeAt, n.s.now), func() {
			if n.wakeInc == inc {
				n.poke()
			}
		})
	}
}

// guardHears moves the guard's deadline; the guard also remembers the beat, for the next agent.
func (n *simNode) guardHears(killAt replication.Instant) {
	n.guardNonce, n.guardEpoch, n.guardSent, n.guardN = n.lease.Nonce, n.lease.Epoch, n.lease.SentAt, n.lease.N
	if killAt == n.killAt {
		return
	}
	n.killAt = killAt
	n.guardInc++
	if killAt != 0 && n.s.rules.Guard {
		n.guardWaits(n.guardInc)
	}
}

func (n *simNode) guardWaits(inc int) {
	n.s.after(n.clock.until(n.killAt, n.s.now), func() { n.guardActs(inc) })
}

func (n *simNode) guardActs(inc int) {
	if inc != n.guardInc || !n.pg.guard {
		return
	}
	if wait := n.frozenUntil - n.s.now; wait > 0 {
		n.s.after(wait+n.s.between(0, 8*time.Millisecond), func() { n.guardActs(inc) })
		return
	}
	if n.pg.proc != ProcessStopped {
		n.s.logf("%s: the guard kills", n.name)
		n.dead(false)
	}
}

// leaseHand carries out one write, and reads the store until its outcome is known.
func (n *simNode) leaseHand(m LeaseMove) {
	n.leaseBusy = true
	sentAt := n.now()
	nonce := n.lease.Nonce
	if m.Beat != nil {
		if m.Beat.N < n.lease.NextN {
			n.s.fail("S6: %s sends beat %d again", n.name, m.Beat.N)
		}
		n.sent[m.Beat.N] = sentAt
		n.lease.NextN = m.Beat.N + 1
		nonce = m.Beat.Nonce
	}
	switch m.Kind {
	case LeaseVote:
		n.lease.VoteRisk = m.Vote.Epoch
	case LeaseWrite, LeaseOpen:
		n.lease.RecordRisk = m.RecordRev
	case LeaseClaim:
		n.lease.Nonce, n.lease.N = m.Beat.Nonce, m.Beat.N-1
		n.lease.SentAt = 0
	}
	ok := false
	slow := map[LeaseKind]float64{LeaseVote: 0.1, LeaseWrite: 0.1, LeaseClaim: 0.1, LeaseOpen: 0.1}[m.Kind]
	n.s.slowCall(max(slow, 0.01), n.index, n.s.timing.RPC, func() { ok = n.s.store.apply(m, n) }, func(known bool) {
		n.agentDo(0, func() {
			if n.s.trace != nil && (!known || !ok) {
				n.s.logf("%s: %s: known %v ok %v", n.name, m.Kind, known, ok)
			}
			if known && ok {
				switch {
				case m.Beat != nil && nonce == n.lease.Nonce && m.Beat.N > n.lease.N:
					n.lease.N, n.lease.SentAt, n.lease.Epoch = m.Beat.N, sentAt, m.Beat.Epoch
				case m.Kind == LeaseUnvote && n.lease.VoteRisk == m.Vote.Epoch:
					n.lease.VoteRisk = 0
				}
			}
			n.readUntilKnown()
		})
	})
}

// readUntilKnown ends the lease hand's move with a read that was sent after it.
func (n *simNode) readUntilKnown() {
	sent := n.now()
	var snap snapshot
	n.s.call(n.index, n.s.timing.RPC, func() { snap = n.s.store.read() }, func(known bool) {
		n.agentDo(0, func() {
			if !known {
				n.readUntilKnown()
				return
			}
			n.leaseBusy = false
			n.learn(snap, sent)
			n.poke()
		})
	})
}

// postgresHand carries out one move.
func (n *simNode) postgresHand(m PostgresMove) {
	n.pgMoveInc++
	n.pgBusy, n.pgMove = true, m
	inc := n.pgMoveInc
	n.agentDo(n.duration(m.Kind), func() {
		if n.pgMoveInc != inc {
			return
		}
		n.perform(m)
		n.finish(m, inc)
	})
}

// finish ends the move: that of names when they are in force.
func (n *simNode) finish(m PostgresMove, inc int) {
	if m.Kind == PostgresNames && n.pg.proc == ProcessRunning && !n.pg.inForce {
		n.agentDo(2*time.Millisecond, func() {
			if n.pgMoveInc == inc {
				n.finish(m, inc)
			}
		})
		return
	}
	n.pgBusy, n.factsAt = false, -1
	if n.s.trace != nil {
		n.s.logf("%s: did %s %s", n.name, m.Kind, m.Source)
	}
	n.poke()
}

func (n *simNode) duration(k PostgresKind) time.Duration {
	s, ms := n.s, time.Millisecond
	switch k {
	case PostgresClone, PostgresReclone:
		return s.between(300*ms, 3*time.Second)
	case PostgresRewind:
		return s.between(200*ms, 1500*ms)
	case PostgresStopFast:
		return s.between(30*ms, 400*ms)
	case PostgresKillWhole:
		return s.between(3*ms, 60*ms)
	case PostgresPromote:
		return s.between(20*ms, 150*ms)
	case PostgresInitdb:
		return s.between(300*ms, time.Second)
	default:
		return s.between(ms, 40*ms)
	}
}

// perform is what the move does, at its end.
func (n *simNode) perform(m PostgresMove) {
	pg, s := &n.pg, n.s
	running := pg.proc == ProcessRunning
	switch m.Kind {
	case PostgresInitdb:
		s.branches++
		*pg = simPostgres{
			dir: DirectoryPresent, fresh: true, proc: ProcessStopped, standbys: map[int]*sender{}, follows: -1,
			pos: pos{&branch{id: s.branches, timeline: 1}, 1000}, system: fmt.Sprintf("sys%d", s.branches),
		}
	case PostgresDropFresh:
		pg.dir = DirectoryAbsent
	case PostgresClone, PostgresReclone, PostgresRewind:
		n.copyFrom(m)
	case PostgresStart:
		if pg.proc == ProcessStopped {
			n.start(s.index(m.Source), m.Lineage)
		}
	case PostgresFollow:
		if n.alive() && pg.inRecovery {
			pg.lineage = m.Lineage
			n.follow(s.index(m.Source))
		}
	case PostgresFreeze:
		if n.alive() && pg.inRecovery {
			n.follow(-1)
		}
	case PostgresPrepare:
		pg.captured = running
	case PostgresPromote:
		if running {
			n.promote(m.Names, m.Lineage)
			s.ambush(n)
		}
	case PostgresNames:
		if running && !pg.inRecovery {
			n.setNames(m.Names)
		}
	case PostgresSlots:
		pg.slots = m.Slots
	case PostgresCheckpoint:
		pg.checkpointed = running
		if h := n.snap.record.Handoff; h != nil {
			pg.stopCheck = h.ID
		}
	case PostgresStopFast:
		n.stopFast()
	case PostgresKillWhole:
		n.dead(false)
	case PostgresReadEnd:
		pg.endKnown = true
		n.poke()
	case PostgresInspect:
		n.inspect(s.nodes[s.index(m.Source)])
	}
}

// stopFast writes the shutdown checkpoint, and lets the reachable standbys have it.
func (n *simNode) stopFast() {
	pg, s := &n.pg, n.s
	if pg.proc == ProcessStopped {
		return
	}
	if !pg.inRecovery && pg.proc == ProcessRunning {
		pg.pos.lsn++
		for i := range s.nodes {
			if sb := pg.standbys[i]; sb != nil && sb.streaming && s.chance(0.95) {
				s.nodes[i].pullFrom(n)
			}
		}
	}
	n.dead(pg.proc == ProcessRunning)
}

func (n *simNode) pullFrom(up *simNode) {
	if n.pg.follows == up.index && n.pg.inRecovery && n.alive() && n.s.now >= n.frozenUntil {
		n.pull()
		if n.s.chance(0.9) && n.s.up(up.index, n.index) && n.s.up(n.index, up.index) && up.pg.pos.contains(n.pg.pos) {
			n.pg.pos = up.pg.pos
		}
	}
}

func (n *simNode) inspect(up *simNode) {
	if !n.reaches(up) || up.pg.proc != ProcessRunning {
		return
	}
	n.pg.facts = &RejoinFacts{
		Epoch: n.snap.record.Epoch, Source: up.name, SystemID: up.pg.system, Timeline: up.pg.pos.b.timeline, Flush: up.pg.pos.lsn,
		History: up.pg.pos.history(), InRecovery: up.pg.inRecovery, Checkpointed: up.pg.checkpointed,
	}
}

func (n *simNode) reaches(up *simNode) bool {
	return n.s.up(n.index, up.index) && n.s.up(up.index, n.index) && n.s.now >= up.frozenUntil
}

// copyFrom clones or rewinds.
func (n *simNode) copyFrom(m PostgresMove) {
	pg, s := &n.pg, n.s
	if pg.proc != ProcessStopped {
		s.fail("S4: %s is copied over while it runs", n.name)
		return
	}
	up := s.nodes[s.index(m.Source)]
	bad := !n.reaches(up) || up.pg.proc != ProcessRunning || s.faulty && s.chance(0.05)
	s.destroyed(n)
	if m.Kind == PostgresRewind {
		if pg.dir != DirectoryPresent { // it was wiped meanwhile
			bad = true
		} else if !bad && (up.pg.inRecovery || up.pg.pos.b.timeline == pg.pos.b.timeline) {
			bad = true // pg_rewind refuses: nothing happened
		} else if !bad && !up.pg.pos.contains(commonAncestor(pg.pos, up.pg.pos)) {
			s.fail("corrupt: pg_rewind of %s does not see where it diverged", n.name)
		}
	}
	if bad {
		pg.attempts++
		n.retryAt = n.now().Add(s.between(200*time.Millisecond, time.Second))
		if pg.dir != DirectoryPresent || m.Kind != PostgresRewind || s.chance(0.3) {
			pg.dir = DirectoryBroken
			pg.pos, pg.lineage = pos{}, nil
		}
		return
	}
	// The copy is as new as the source was when it began; it needs WAL up to its end to be consistent.
	*pg = simPostgres{
		dir: DirectoryPresent, proc: ProcessStopped, inc: pg.inc + 1, standbys: map[int]*sender{}, follows: -1,
		pos: up.pg.pos, system: up.pg.system, lineage: m.Lineage, wasPrimary: true,
	}
}

// commonAncestor is what pg_rewind takes for the point of divergence: it compares numbers.
func commonAncestor(a, b pos) pos {
	ha, hb := a.history(), b.history()
	var end replication.LSN
	for i := 0; ; i++ {
		ta, ea := tliAt(a, ha, i)
		tb, eb := tliAt(b, hb, i)
		if ta == 0 || ta != tb || i > 0 && ha[i-1].LSN != hb[i-1].LSN {
			break
		}
		end = min(ea, eb)
		if ea != eb {
			break
		}
	}
	return a.at(end)
}

func tliAt(p pos, h replication.History, i int) (replication.Timeline, replication.LSN) {
	switch {
	case i < len(h):
		return h[i].Timeline, h[i].LSN
	case i == len(h):
		return p.b.timeline, p.lsn
	}
	return 0, 0
}
