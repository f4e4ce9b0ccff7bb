package ha

import (
	"slices"
	"time"
)

// acknowledge is PostgreSQL's answer to a commit. In synchronous modes it must hold for ever.
func (s *sim) acknowledge(n *simNode, c *simCommit) {
	if s.mode != SyncOff {
		if rec := s.store.record; rec.Epoch > c.epoch && !s.holds(rec, c.at) {
			s.fail("S3: %s acknowledges a commit of epoch %d at %v, but %s has claimed epoch %d without it",
				n.name, c.epoch, c.at.lsn, rec.Primary, rec.Epoch)
		}
		s.acked = append(s.acked, c)
		if c.at.contains(s.lastAcked) {
			s.lastAcked = c.at
		}
		s.checkQuorum("acknowledgement")
	}
	c.ack()
}

// holds reports whether the claimer of the record's epoch has the position.
func (s *sim) holds(rec *Record, p pos) bool {
	return s.nodes[s.index(rec.Primary)].pg.pos.contains(p)
}

// opened is S1: whoever opens the door holds every acknowledged commit.
func (s *sim) opened(by *simNode) {
	s.logf("OPEN epoch %d by %s on branch %d", s.store.record.Epoch, by.name, by.pg.pos.b.id)
	for _, c := range s.acked {
		if !by.pg.pos.contains(c.at) {
			s.fail("S1: %s opens epoch %d without the acknowledged commit at %v of epoch %d",
				by.name, s.store.record.Epoch, c.at.lsn, c.epoch)
			return
		}
	}
}

// checkQuorum is S5: every acknowledged commit is held by k of the voters (all, if they are fewer).
func (s *sim) checkQuorum(when string) {
	rec := s.store.record
	if s.loss || s.mode == SyncOff || len(rec.Sync.Voters) == 0 || s.lastAcked.b == nil {
		return
	}
	holders := 0
	for _, v := range rec.Sync.Voters {
		if s.nodes[s.index(v)].pg.pos.contains(s.lastAcked) {
			holders++
		}
	}
	if need := min(rec.Sync.Quorum, len(rec.Sync.Voters)); holders < need {
		s.fail("S5: after a change of %s %d of the voters %v hold the last acknowledged commit, %d needed", when, holders, rec.Sync.Voters, need)
	}
}

// destroyed is S4: what a copy overwrites exists elsewhere.
func (s *sim) destroyed(n *simNode) {
	if s.mode == SyncOff {
		return
	}
	for _, m := range s.nodes {
		if m != n && m.pg.dir == DirectoryPresent && m.pg.pos.contains(s.lastAcked) {
			return
		}
	}
	s.fail("S4: %s is copied over, and nobody else holds the last acknowledged commit", n.name)
}

// checkWriters is S2: one open door, and no old server that takes writes beside it.
func (s *sim) checkWriters() {
	if s.blind {
		return
	}
	var door *simNode
	for _, n := range s.nodes {
		if n.doorOpen() {
			if door != nil {
				s.fail("S2: the doors of %s and %s are open", door.name, n.name)
			}
			door = n
		}
	}
	rec := s.store.record
	if rec == nil || !rec.Open {
		return
	}
	for _, n := range s.nodes {
		pg := &n.pg
		if n.s.now < n.frozenUntil || s.now-n.thawedAt < 30*time.Millisecond || pg.inRecovery || pg.proc == ProcessStopped {
			continue
		}
		if pg.epoch < rec.Epoch {
			s.fail("S2: %s takes writes of epoch %d beside the open epoch %d", n.name, pg.epoch, rec.Epoch)
		}
	}
}

// doorOpen reports whether a local client could write now.
func (n *simNode) doorOpen() bool {
	return n.up && n.s.now >= max(n.frozenUntil, n.agentFrozen) && n.last.Door && n.now() < n.last.DoorUntil
}

// watch runs the checks that belong to no event.
func (s *sim) watch() {
	s.checkWriters()
	for _, n := range s.nodes {
		if n.s.now >= n.frozenUntil {
			n.expireSenders()
		}
	}
	s.after(20*time.Millisecond, s.watch)
}

// converged is L1: one open primary with an open door, everybody else streams from it, and what should be voters are.
func (s *sim) converged() (string, bool) {
	rec := s.store.record
	if rec == nil || !rec.Open || rec.Handoff != nil || rec.Paused {
		return "no open epoch", false
	}
	p := s.nodes[s.index(rec.Primary)]
	if !p.doorOpen() {
		return "the door of " + string(p.name) + " is shut", false
	}
	for _, n := range s.nodes {
		if n == p {
			continue
		}
		if !n.up || n.pg.proc != ProcessRunning || !n.pg.streams || n.pg.follows != p.index || !p.pg.pos.contains(n.pg.pos) {
			return string(n.name) + " does not stream", false
		}
		if s.mode != SyncOff && n.tags == nil && !slices.Contains(rec.Sync.Voters, n.name) {
			return string(n.name) + " is no voter", false
		}
	}
	if s.mode != SyncOff && !slices.Equal(rec.Sync.Voters, p.pg.names.Names) {
		return "names and voters differ", false
	}
	return "", true
}
