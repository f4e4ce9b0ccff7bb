package ha

import (
	"fmt"
	"time"
)

const ms = time.Millisecond

// trouble draws a fault now and then.
func (s *sim) trouble() {
	if !s.faulty {
		return
	}
	s.after(s.between(200*ms, 6*time.Second), s.trouble)
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if rec := s.store.record; rec != nil && s.chance(0.5) {
		n = s.nodes[s.index(rec.Primary)]
	}
	faults := []func(*simNode){
		s.crashPostgres, s.crashPostgres, s.crashAgent, s.freezeAgent, s.freezeNode, s.freezeNode, s.loseHost, s.cutStore,
		s.cutStore, s.isolate, s.cutPeers, s.pauseStore, s.hang, s.killGuard, s.switchover, s.switchover, s.slowStandbys,
		s.restartAll, s.freezeProxy, s.wipe, s.loseMany, s.pauseCluster, s.stopClock,
	}
	faults[s.rng.IntN(len(faults))](n)
}

// ambush strikes between the promotion and the open door: timelines are made there that no ledger knows.
func (s *sim) ambush(n *simNode) {
	if !s.faulty || !s.chance(0.25) {
		return
	}
	faults := []func(*simNode){s.loseHost, s.isolate, s.freezeNode, s.cutStore, s.crashPostgres}
	fault := faults[s.rng.IntN(len(faults))]
	s.cutLink(n.index, -1, s.between(0, 100*ms)) // some of its records reach the others before
	s.after(s.between(0, 100*ms), func() { fault(n) })
}

func (s *sim) crashPostgres(n *simNode) {
	if n.pg.proc != ProcessRunning && n.pg.proc != ProcessStarting {
		return
	}
	s.logf("FAULT: postmaster of %s dies", n.name)
	n.setProc(ProcessRemains) // its backends go on
}

func (s *sim) crashAgent(n *simNode) {
	s.logf("FAULT: agent of %s dies", n.name)
	n.crash()
	s.after(s.between(50*ms, 9*time.Second), n.boot)
}

func (s *sim) freezeAgent(n *simNode) {
	d := s.between(300*ms, 10*time.Second)
	s.logf("FAULT: agent of %s freezes for %v", n.name, d)
	n.agentFrozen = max(n.agentFrozen, s.now+d)
}

func (s *sim) freezeNode(n *simNode) {
	d := s.between(300*ms, 10*time.Second)
	s.logf("FAULT: %s freezes for %v", n.name, d)
	n.frozenUntil = max(n.frozenUntil, s.now+d)
	n.thawedAt = n.frozenUntil
}

// stopClock is a virtual machine that is suspended with its clock: no deadline on it can help. In synchronous modes the
// votes must keep every acknowledged commit all the same; nothing is promised of the writers (S2) any more.
func (s *sim) stopClock(n *simNode) {
	if s.mode == SyncOff || !s.suspends || n.frozenUntil > s.now {
		return
	}
	d := s.between(300*ms, 10*time.Second)
	s.logf("FAULT: %s is suspended with its clock for %v", n.name, d)
	s.blind = true
	n.frozenUntil, n.thawedAt = s.now+d, s.now+d
	n.clock.offset -= time.Duration(float64(d) * n.clock.rate)
	n.clock.stopped = n.clock.read(s.now + d)
	n.clock.stoppedUntil = s.now + d
}

// pauseCluster is an operator who pauses and resumes automatic moves.
func (s *sim) pauseCluster(*simNode) {
	rec := s.store.record
	if rec == nil || rec.Paused || s.mode == SyncOff || !s.suspends {
		return
	}
	s.logf("FAULT: the cluster is paused")
	s.blind = true // a cut off primary goes on: only the votes stand in the way of its commits
	s.pause(true)
	s.after(s.between(time.Second, 10*time.Second), func() { s.pause(false) })
}

func (s *sim) pause(on bool) {
	next := *s.store.record
	next.Version++
	next.Paused = on
	s.logf("paused: %v", on)
	s.store.put(&next)
}

// loseHost takes the power away; the disk stays.
func (s *sim) loseHost(n *simNode) {
	s.logf("FAULT: %s is lost", n.name)
	n.crash()
	n.frozenUntil, n.agentFrozen = 0, 0
	n.dead(false)
	n.guardNonce = ""
	s.after(s.between(100*ms, 12*time.Second), n.boot)
}

func (s *sim) loseMany(*simNode) {
	for _, n := range s.nodes {
		if s.chance(0.5) {
			s.loseHost(n)
		}
	}
}

func (s *sim) restartAll(*simNode) {
	for _, n := range s.nodes {
		s.loseHost(n)
	}
}

func (s *sim) cutStore(n *simNode) {
	d, way := s.between(300*ms, 10*time.Second), s.rng.IntN(3)
	s.logf("FAULT: %s and the store part for %v (%d)", n.name, d, way)
	if way != 1 {
		s.cutLink(n.index, -1, d)
	}
	if way != 2 {
		s.cutLink(-1, n.index, d)
	}
}

func (s *sim) isolate(n *simNode) {
	d := s.between(300*ms, 12*time.Second)
	s.logf("FAULT: %s is isolated for %v", n.name, d)
	s.cutLink(n.index, -1, d)
	s.cutLink(-1, n.index, d)
	for _, m := range s.nodes {
		if m != n {
			s.cutLink(n.index, m.index, d)
			s.cutLink(m.index, n.index, d)
		}
	}
	if s.chance(0.5) { // one proxy stays on its side, away from the store
		s.cutLink(s.proxies[0].index, -1, d)
		s.cutLink(-1, s.proxies[0].index, d)
	}
}

func (s *sim) cutPeers(n *simNode) {
	d := s.between(300*ms, 8*time.Second)
	s.logf("FAULT: %s loses some peers for %v", n.name, d)
	for _, m := range s.nodes {
		if m != n && s.chance(0.6) {
			if s.chance(0.7) {
				s.cutLink(n.index, m.index, d)
			}
			s.cutLink(m.index, n.index, d)
		}
	}
}

func (s *sim) pauseStore(*simNode) {
	d := s.between(200*ms, 5*time.Second)
	s.logf("FAULT: the store elects for %v", d)
	s.store.pausedUntil = s.now + d
}

func (s *sim) hang(n *simNode) {
	if n.pg.proc == ProcessRunning {
		s.logf("FAULT: PostgreSQL of %s stops", n.name)
		n.pg.hungUntil = s.now + s.between(time.Second, 20*time.Second)
	}
}

func (s *sim) killGuard(n *simNode) {
	if !n.pg.guard || n.pg.proc == ProcessStopped {
		return
	}
	s.logf("FAULT: guard of %s dies", n.name)
	n.pg.guard = false
	n.setProc(ProcessRemains)
	inc := n.pg.inc
	s.after(s.between(10*ms, 100*ms), func() { // the postmaster's own signal from the kernel
		if n.pg.inc == inc {
			n.dead(false)
		}
	})
}

func (s *sim) slowStandbys(*simNode) {
	for _, n := range s.nodes {
		if s.chance(0.5) {
			n.pg.slowUntil = s.now + s.between(200*ms, 4*time.Second)
		}
	}
}

func (s *sim) freezeProxy(*simNode) {
	p := s.proxies[s.rng.IntN(len(s.proxies))]
	p.frozen = s.now + s.between(300*ms, 8*time.Second)
}

// switchover asks for one, as an operator's verb does.
func (s *sim) switchover(n *simNode) {
	rec := s.store.record
	if rec == nil || !rec.Open || rec.Handoff != nil || s.now < s.store.pausedUntil {
		return
	}
	next := *rec
	next.Version++
	s.handoffs++
	next.Handoff = &Handoff{
		ID: fmt.Sprint("h", s.handoffs), From: rec.Primary, To: s.nodes[s.rng.IntN(len(s.nodes))].name, Phase: HandoffPrepare,
		DrainTimeout: s.between(500*ms, 4*time.Second), CancelOpen: s.chance(0.5), Deadline: s.between(2*time.Second, 10*time.Second),
	}
	s.logf("FAULT: switchover %s to %s", rec.Primary, next.Handoff.To)
	s.store.put(&next)
}

// wipe is an operator who removes the data directory of a standby that is no voter.
func (s *sim) wipe(n *simNode) {
	rec := s.store.record
	if rec == nil || rec.Primary == n.name || !rec.Open || s.mode != SyncOff && (len(rec.Sync.Voters) == 0 || containsNode(rec.Sync.Voters, n)) {
		return
	}
	if s.mode == SyncOff {
		return
	}
	for _, m := range s.nodes {
		if m != n && m.name == rec.Primary && !m.pg.pos.contains(s.lastAcked) {
			return
		}
	}
	s.logf("FAULT: %s is wiped", n.name)
	n.dead(false)
	inc := n.pg.inc
	n.pg = simPostgres{dir: DirectoryAbsent, proc: ProcessStopped, inc: inc + 1, standbys: map[int]*sender{}, follows: -1}
}

func containsNode(names []nodeID, n *simNode) bool {
	for _, name := range names {
		if name == n.name {
			return true
		}
	}
	return false
}

// heal ends all faults.
func (s *sim) heal() {
	s.logf("HEAL")
	s.faulty = false
	s.cut = map[[2]int]time.Duration{}
	s.store.pausedUntil = 0
	for _, n := range s.nodes {
		n.frozenUntil, n.agentFrozen = min(n.frozenUntil, s.now), min(n.agentFrozen, s.now)
		n.pg.slowUntil = 0
		s.after(s.between(0, time.Second), n.boot)
	}
	for _, p := range s.proxies {
		p.frozen = 0
	}
}
