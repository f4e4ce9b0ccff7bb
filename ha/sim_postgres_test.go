package ha

import (
	"slices"
	"time"

	"github.com/walgate/walgate/replication"
)

// branch is a timeline that one promotion really made. Numbers may collide; branches do not.
type branch struct {
	id       int
	parent   *branch
	timeline replication.Timeline
	start    replication.LSN // where it forked off
}

// pos is the end of one node's WAL: what it holds is exactly the history up to it.
type pos struct {
	b   *branch
	lsn replication.LSN
}

// contains reports whether the history up to p holds all of the history up to q.
func (p pos) contains(q pos) bool {
	if q.b == nil {
		return true
	}
	lsn := p.lsn
	for b := p.b; b != nil; b = b.parent {
		if b == q.b {
			return q.lsn <= lsn
		}
		lsn = min(lsn, b.start)
	}
	return false
}

// at cuts p's history at the position.
func (p pos) at(lsn replication.LSN) pos {
	b := p.b
	for b.parent != nil && lsn <= b.start {
		b = b.parent
	}
	return pos{b, min(lsn, p.lsn)}
}

func (p pos) history() replication.History {
	var h replication.History
	for b := p.b; b != nil && b.parent != nil; b = b.parent {
		h = append(h, replication.Switch{Timeline: b.parent.timeline, LSN: b.start})
	}
	slices.Reverse(h)
	return h
}

// looksLike reports whether PostgreSQL, which knows numbers only, would take p for a prefix of q.
func (p pos) looksLike(q pos) bool {
	mine, other := p.history(), q.history()
	for i, s := range mine {
		if i >= len(other) || other[i] != s {
			return false
		}
	}
	if len(other) > len(mine) {
		return other[len(mine)].Timeline == p.b.timeline && p.lsn <= other[len(mine)].LSN
	}
	return p.b.timeline == q.b.timeline && p.lsn <= q.lsn
}

// simCommit is one transaction that waits for its acknowledgement.
type simCommit struct {
	at    pos
	epoch replication.Epoch
	ack   func()
}

// sender is a walsender.
type sender struct {
	flush     replication.LSN
	streaming bool
	lost      time.Duration // since when it hears nothing; 0: it does
}

// simPostgres is one data directory and the server on it.
type simPostgres struct {
	dir     Directory
	system  string
	fresh   bool
	pos     pos
	lineage *Lineage
	clean   bool

	proc       Process
	procSince  time.Duration
	inc        int // of the process: what was planned for an older one is dropped
	guard      bool
	inRecovery bool
	wasPrimary bool
	follows    int // node index, -1: nobody
	followInc  int
	receiver   bool
	streams    bool
	lastData   time.Duration
	replay     time.Duration // how long replay is behind
	endKnown   bool
	slowUntil  time.Duration // a slow disk or link: the receiver gets nothing
	hungUntil  time.Duration

	epoch        replication.Epoch // it was promoted in
	names        SyncNames
	oldNames     SyncNames
	inForce      bool
	namesInc     int
	floor        replication.LSN
	standbys     map[int]*sender
	standbysAt   time.Duration
	waiting      []*simCommit
	slots        []replication.NodeID
	captured     bool
	eor          replication.LSN
	checkpointed bool
	stopCheck    string // handoff for which a checkpoint has been made
	facts        *RejoinFacts
	attempts     int
	rewindFailed bool
}

func (n *simNode) alive() bool { return n.pg.proc == ProcessRunning || n.pg.proc == ProcessStarting }

// pgDo runs fn for this incarnation of the server, after a thaw if the node is frozen.
func (n *simNode) pgDo(d time.Duration, fn func()) {
	inc := n.pg.inc
	var step func()
	step = func() {
		if n.pg.inc != inc {
			return
		}
		if wait := max(n.frozenUntil, n.pg.hungUntil) - n.s.now; wait > 0 {
			n.s.after(wait+n.s.between(0, 20*time.Millisecond), step)
			return
		}
		fn()
	}
	n.s.after(d, step)
}

// setProc changes the state of the server's processes.
func (n *simNode) setProc(p Process) {
	n.pg.proc, n.pg.procSince = p, n.s.now
	n.poke()
}

// dead ends every process of the server.
func (n *simNode) dead(clean bool) {
	pg := &n.pg
	if pg.proc == ProcessStopped {
		return
	}
	pg.inc++
	pg.wasPrimary = !pg.inRecovery
	pg.clean, pg.endKnown, pg.receiver, pg.streams = clean, false, false, false
	pg.standbys, pg.waiting, pg.guard = map[int]*sender{}, nil, false
	pg.hungUntil = 0
	n.s.logf("%s: PostgreSQL is dead at %v on %d", n.name, pg.pos.lsn, pg.pos.b.timeline)
	n.setProc(ProcessStopped)
}

// start boots as standby.
func (n *simNode) start(follows int, lineage *Lineage) {
	pg := &n.pg
	pg.inc++
	pg.fresh = pg.fresh && lineage == nil
	pg.inRecovery, pg.follows, pg.guard, pg.receiver = true, follows, true, false
	pg.standbys, pg.waiting, pg.captured, pg.eor, pg.floor = map[int]*sender{}, nil, false, 0, 0
	pg.names, pg.inForce, pg.checkpointed, pg.facts = SyncNames{}, true, false, nil
	if lineage != nil {
		pg.lineage = lineage
	}
	n.setProc(ProcessStarting)
	pg.replay = n.s.between(0, 100*time.Millisecond)
	pg.lastData = n.s.now
	n.receive()
	n.pgDo(n.s.between(50*time.Millisecond, time.Second), func() { n.becomeConsistent() })
}

func (n *simNode) becomeConsistent() {
	pg := &n.pg
	if pg.lineage != nil && pg.lineage.Copied && !pg.streams { // it needs more WAL of its source
		n.pgDo(100*time.Millisecond, func() { n.becomeConsistent() })
		return
	}
	n.setProc(ProcessRunning)
}

// follow repoints the running standby.
func (n *simNode) follow(to int) {
	pg := &n.pg
	pg.follows, pg.receiver, pg.streams = to, false, false
	pg.followInc++
	if to >= 0 {
		n.receive()
	}
}

// receive is the WAL receiver's loop.
func (n *simNode) receive() {
	pg := &n.pg
	if pg.follows < 0 {
		return
	}
	inc := pg.followInc
	n.pgDo(n.s.between(5*time.Millisecond, 40*time.Millisecond), func() {
		if pg.followInc != inc || !pg.inRecovery {
			return
		}
		n.pull()
		n.receive()
	})
}

func (n *simNode) pull() {
	s, pg, up := n.s, &n.pg, n.s.nodes[n.pg.follows]
	if s.now < pg.slowUntil || s.now < up.frozenUntil || s.now < up.pg.hungUntil || !s.up(n.index, up.index) || !s.up(up.index, n.index) {
		return
	}
	if up.pg.proc != ProcessRunning && up.pg.proc != ProcessRemains && up.pg.proc != ProcessStopping || !slices.Contains(up.pg.slots, n.name) {
		pg.receiver, pg.streams = false, false
		return
	}
	if !up.pg.pos.contains(pg.pos) {
		pg.receiver, pg.streams = false, false
		if pg.pos.looksLike(up.pg.pos) && pg.pos.lsn < up.pg.pos.lsn {
			s.fail("corrupt: %s streams from %s though their WAL differs", n.name, up.name)
		}
		return
	}
	pg.receiver, pg.streams = true, true
	if up.pg.pos.lsn > pg.pos.lsn {
		target := up.pg.pos.lsn
		if s.chance(0.3) {
			target = pg.pos.lsn + replication.LSN(s.rng.Int64N(int64(target-pg.pos.lsn)+1))
		}
		if target > pg.pos.lsn {
			pg.pos, pg.lastData = up.pg.pos.at(target), s.now
		}
	}
	at, inc := pg.pos.lsn, up.pg.inc
	s.after(s.latency(), func() {
		if up.pg.inc == inc && s.up(n.index, up.index) {
			up.acknowledged(n.index, at)
		}
	})
}

// acknowledged is what a walsender does with a standby's answer.
func (n *simNode) acknowledged(from int, flush replication.LSN) {
	pg := &n.pg
	if s := pg.standbys[from]; s == nil {
		pg.standbys[from] = &sender{flush: flush, streaming: true}
		pg.standbysAt = n.s.now
		n.poke()
	} else {
		s.flush, s.lost = max(s.flush, flush), n.s.now
	}
	pg.standbys[from].lost = n.s.now
	if !pg.inRecovery {
		n.releaseWaiting()
	}
}

// expireSenders drops walsenders whose standby is silent.
func (n *simNode) expireSenders() {
	for i, s := range n.pg.standbys {
		other := &n.s.nodes[i].pg
		gone := other.follows != n.index || other.proc != ProcessRunning && other.proc != ProcessStarting
		reachable := n.s.up(i, n.index) && n.s.up(n.index, i)
		if n.s.now-s.lost > 2*time.Second || gone && reachable && n.s.now-s.lost > 50*time.Millisecond {
			delete(n.pg.standbys, i)
			n.pg.standbysAt = n.s.now
			n.poke()
		}
	}
}

// commit writes a transaction; ack is called when PostgreSQL answers its client.
func (n *simNode) commit(ack func()) bool {
	pg := &n.pg
	if pg.inRecovery || n.s.now < n.frozenUntil || n.s.now < pg.hungUntil ||
		pg.proc != ProcessRunning && pg.proc != ProcessRemains {
		return false
	}
	pg.pos.lsn++
	n.s.commits++
	pg.waiting = append(pg.waiting, &simCommit{pg.pos, pg.epoch, ack})
	n.pgDo(n.s.between(0, 3*time.Millisecond), func() { n.releaseWaiting() })
	return true
}

// releaseWaiting acknowledges commits that enough standbys have flushed: while a change of names takes effect, either
// setting may be the one that counts.
func (n *simNode) releaseWaiting() {
	pg := &n.pg
	names := pg.names
	if !pg.inForce && n.s.chance(0.5) {
		names = pg.oldNames
	}
	kept := pg.waiting[:0]
	for _, c := range pg.waiting {
		count := 0
		for _, name := range names.Names {
			if s := pg.standbys[n.s.index(name)]; s != nil && s.flush >= c.at.lsn {
				count++
			}
		}
		if len(names.Names) > 0 && count < names.Quorum {
			kept = append(kept, c)
			continue
		}
		n.s.acknowledge(n, c)
	}
	pg.waiting = kept
}

// setNames reloads with other names; they take effect a little later.
func (n *simNode) setNames(names SyncNames) {
	pg := &n.pg
	pg.oldNames, pg.names, pg.inForce, pg.floor = pg.names, names, false, 0
	pg.namesInc++
	inc := pg.namesInc
	n.pgDo(n.s.between(time.Millisecond, 60*time.Millisecond), func() {
		if pg.namesInc != inc {
			return
		}
		pg.inForce = true
		n.releaseWaiting()
		n.pgDo(n.s.between(0, 10*time.Millisecond), func() {
			if pg.namesInc == inc {
				pg.floor = pg.pos.lsn
				n.poke()
			}
		})
	})
}

// promote ends recovery on a new branch. Its number is one past what this server knows.
func (n *simNode) promote(names SyncNames, lineage *Lineage) {
	pg := &n.pg
	if !pg.inRecovery {
		return
	}
	n.s.branches++
	pg.lineage = lineage
	pg.pos = pos{&branch{n.s.branches, pg.pos.b, pg.pos.b.timeline + 1, pg.pos.lsn}, pg.pos.lsn + 1}
	pg.inRecovery, pg.epoch, pg.eor = false, lineage.Epoch, pg.pos.lsn
	pg.names, pg.inForce, pg.floor, pg.standbysAt = names, true, pg.pos.lsn, n.s.now
	pg.follows, pg.receiver, pg.streams = -1, false, false
	pg.followInc++
	n.s.logf("%s: promoted to timeline %d (branch %d) at %v, names %v", n.name, pg.pos.b.timeline, pg.pos.b.id, pg.pos.lsn, names)
}

func (s *sim) index(name replication.NodeID) int {
	for _, n := range s.nodes {
		if n.name == name {
			return n.index
		}
	}
	return -1
}

// observe gathers the facts as an agent would.
func (n *simNode) observe() Instance {
	pg, s := &n.pg, n.s
	in := Instance{
		At: n.clock.read(s.now), Directory: pg.dir, Fresh: pg.fresh, Process: pg.proc, GuardAlive: pg.guard || pg.proc == ProcessStopped,
		Lineage: pg.lineage, Rejoin: pg.facts, Attempts: pg.attempts, RewindFailed: pg.rewindFailed, WasPrimary: pg.wasPrimary,
		Clean: pg.clean, StatementAt: 0,
	}
	if pg.dir != DirectoryPresent {
		return in
	}
	in.SystemID = pg.system
	in.Timeline, in.History = pg.pos.b.timeline, pg.pos.history()
	if pg.proc == ProcessRunning || pg.endKnown {
		in.End = pg.pos.lsn
	}
	in.Hung = pg.hungUntil > s.now+500*time.Millisecond
	if pg.proc == ProcessStarting && pg.follows >= 0 {
		in.Follows = s.nodes[pg.follows].name
	}
	if pg.proc != ProcessRunning {
		return in
	}
	in.InRecovery = pg.inRecovery
	if pg.follows >= 0 {
		in.Follows = s.nodes[pg.follows].name
	}
	in.ReceiverAlive, in.Streaming = pg.receiver, pg.streams
	in.Received, in.Replayed = pg.pos.lsn, pg.pos.lsn
	in.ReplayComplete = s.now-pg.lastData >= pg.replay
	if !in.ReplayComplete {
		in.Replayed = pg.pos.b.start
	}
	in.Names, in.NamesInForce, in.NamesFloor = pg.names, pg.inForce, pg.floor
	in.StandbysSince = n.clock.read(pg.standbysAt)
	for i := range s.nodes {
		if sb := pg.standbys[i]; sb != nil {
			in.Standbys = append(in.Standbys, Standby{Name: s.nodes[i].name, Streaming: sb.streaming, Flush: sb.flush})
		}
	}
	in.Slots, in.Checkpointed, in.EndOfRecovery = pg.slots, pg.checkpointed, pg.eor
	if pg.captured {
		in.CapturedXID, in.CapturedEnd = 1000, pg.pos.lsn
	}
	if h := n.snap.record; h != nil && h.Handoff != nil {
		in.StopCheckpoint = pg.stopCheck == h.Handoff.ID
	}
	return in
}
