package agent

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/replication"
)

// instance is what the loop knows of the local PostgreSQL.
type instance struct {
	procs postgres.Processes
	// endedAt is when the loop learned that a postmaster had ended; facts of the directory from before do not prove
	// that its backends are gone.
	endedAt replication.Instant

	dir   postgres.DataDir
	dirAt replication.Instant

	// of the present postmaster
	answered bool
	// stopsStandby: what the stop in progress ends was a standby, as a probe after the last move told.
	stopsStandby bool
	// timeline is the newest that it was known to have WAL of: what pg_control and the receiver say can fall back when
	// the receiver goes.
	timeline replication.Timeline
	facts    postgres.Facts
	last     postgres.Facts      // of the newest probe, whichever postmaster answered it: where to look for the end of WAL
	failures int                 // in a row, at most one for each probe period
	failedAt replication.Instant // when the newest of them was asked
	hung     bool
	// replaySettled counts probes in a row in which replay had reached all that was received.
	replaySettled int
	namesAt       replication.Instant // when the names last set had taken effect; 0: not known
	names         ha.SyncNames
	namesFloor    replication.LSN
	recoveredAt   replication.Instant // when promotion had ended, by this incarnation
	endOfRecovery replication.LSN
	checkpointed  bool
	checkpointAt  replication.Instant // start of the newest checkpoint that has ended
	checkpointing bool
	standbys      []ha.Standby
	standbysSince replication.Instant // when the set of streaming ones last changed

	// of the directory
	end         replication.LSN // end of valid WAL while it is stopped
	capturedXID uint64
	capturedEnd replication.LSN
	rejoin      *ha.RejoinFacts
	minimums    postgres.Minimums // of the upstream that was inspected
	attempts    int
	retryAt     replication.Instant
	copied      string // progress of a clone, for people
}

// setProcesses takes news of guard and postmaster in.
func (i *instance) setProcesses(p postgres.Processes, now replication.Instant) {
	if p.Postmaster != i.procs.Postmaster || p.StartTime != i.procs.StartTime {
		i.answered, i.facts, i.failures, i.hung, i.replaySettled = false, postgres.Facts{}, 0, false, 0
		i.namesAt, i.names, i.namesFloor = 0, ha.SyncNames{}, 0
		i.recoveredAt, i.endOfRecovery, i.checkpointed, i.checkpointAt = 0, 0, false, 0
		i.standbys, i.standbysSince, i.timeline = nil, 0, 0
		if p.Postmaster != 0 {
			i.end, i.capturedXID, i.capturedEnd = 0, 0, 0
		} else {
			i.endedAt = now
		}
	}
	i.procs = p
}

// setDir takes an inspection in that began at.
func (i *instance) setDir(dir postgres.DataDir, at replication.Instant) {
	if at < i.dirAt {
		return
	}
	i.dir, i.dirAt = dir, at
	if i.procs.Postmaster != 0 {
		i.timeline = max(i.timeline, dir.Timeline)
	}
}

// setFacts takes an answer of the present postmaster in.
func (i *instance) setFacts(f postgres.Facts) {
	i.timeline = max(i.timeline, f.Timeline)
	f.Timeline = i.timeline
	i.answered, i.failures, i.failedAt = true, 0, f.At
	if settled := f.InRecovery && f.ReplayComplete && f.Receiver == nil; settled &&
		f.Replayed == i.facts.Replayed {
		i.replaySettled++
	} else if !settled {
		i.replaySettled = 0
	} else {
		i.replaySettled = 1
	}
	i.facts, i.last = f, f
	if i.namesAt != 0 && i.namesFloor == 0 && f.At > i.namesAt && sameNames(parseNames(f.SyncNames), i.names) {
		i.namesFloor = f.Flush
	}
	if !f.InRecovery && i.recoveredAt == 0 { // adopted, or promoted by a move whose end was not seen
		i.recoveredAt = f.At
	}
	if i.recoveredAt != 0 && i.endOfRecovery == 0 && f.At > i.recoveredAt && !f.InRecovery {
		i.endOfRecovery = f.Flush
	}
	i.checkpointed = i.checkpointed || !f.InRecovery && f.Checkpointed
}

// process says how far PostgreSQL runs.
func (i *instance) process(stopping bool) ha.Process {
	switch {
	case stopping: // the move ends with a look at what is left
		return ha.ProcessStopping
	case i.procs.Postmaster == 0 && (i.dirAt <= i.endedAt || i.dir.Leftovers > 0):
		return ha.ProcessRemains
	case i.procs.Postmaster == 0:
		return ha.ProcessStopped
	case !i.answered:
		return ha.ProcessStarting
	default:
		return ha.ProcessRunning
	}
}

// observeInstance gathers the instance as Decide sees it.
func (a *Agent) observeInstance() ha.Instance {
	i, f := &a.inst, a.inst.facts
	stopping := a.pgH.busy && a.pgH.move.Kind == ha.PostgresStopFast
	o := ha.Instance{
		At: i.facts.At, Directory: directory(i.dir), Fresh: a.memory.Fresh,
		Process: i.process(stopping), Hung: i.hung, ProbeFailures: i.failures, GuardAlive: i.procs.Guard != 0,
		SystemID: i.dir.Control.SystemID,
		Clean:    i.dir.Control.CleanPrimary() || i.dir.Control.CleanStandby(),
		Timeline: i.dir.Timeline, History: i.dir.History, End: i.end,
		Lineage: a.memory.Lineage, Follows: a.memory.Follows,
		CapturedXID: i.capturedXID, CapturedEnd: i.capturedEnd,
		Rejoin: i.rejoin, Attempts: i.attempts, RetryAt: i.retryAt, RewindFailed: a.memory.RewindFailed,
	}
	o.WasPrimary = i.dir.Control.WasPrimary() && !i.dir.BackupLabel
	if a.cfg.StatementAt != nil {
		o.StatementAt = a.cfg.StatementAt()
	}
	o.InRecovery = stopping && i.stopsStandby
	if i.procs.Postmaster == 0 {
		o.At = i.dirAt
		return o
	}
	if !i.answered {
		return o
	}
	o.SystemID, o.Timeline, o.End = f.SystemID, f.Timeline, f.Position
	o.InRecovery, o.Received, o.Replayed = f.InRecovery, f.Received, f.Replayed
	o.ReplayComplete = i.replaySettled >= 2
	if f.InRecovery && !f.Received.Known() && !o.ReplayComplete {
		o.End = 0 // replay of what is on the disk goes on: how far it reaches is not known, and a vote must not guess
	}
	o.ReceiverAlive = f.Receiver != nil || f.InRecovery && a.memory.Follows != ""
	o.Streaming = a.streaming()
	o.Names = parseNames(f.SyncNames)
	o.NamesInForce = i.namesAt != 0 && sameNames(o.Names, i.names)
	if o.NamesInForce {
		o.NamesFloor = i.namesFloor
	}
	o.Standbys, o.StandbysSince, o.Slots = i.standbys, i.standbysSince, a.slots()
	o.Checkpointed, o.EndOfRecovery = i.checkpointed, i.endOfRecovery
	o.StopCheckpoint = a.known.handoffSince != 0 && i.checkpointAt >= a.known.handoffSince
	return o
}

// streaming reports whether the receiver streams from the member that it is to follow.
func (a *Agent) streaming() bool {
	r := a.inst.facts.Receiver
	if r == nil || r.Status != "streaming" {
		return false
	}
	up, ok := a.known.member(a.memory.Follows)
	return ok && r.SenderPort == up.Port && (r.SenderHost == up.Host || r.SenderHost == "")
}

// noteStandbys sorts the replicas that are members out, and notes when the set of streaming ones changes.
func (a *Agent) noteStandbys() {
	var out []ha.Standby
	for _, r := range a.inst.facts.Replicas {
		if _, ok := a.known.member(r.ApplicationName); !ok || r.State == "backup" {
			continue
		}
		out = append(out, ha.Standby{Name: r.ApplicationName, Streaming: r.State == "streaming",
			Flush: r.Flush, Replay: r.Replay, SyncState: r.SyncState})
	}
	slices.SortFunc(out, func(x, y ha.Standby) int { return compareNames(x.Name, y.Name) })
	i := &a.inst
	same := slices.EqualFunc(out, i.standbys, func(x, y ha.Standby) bool {
		return x.Name == y.Name && x.Streaming == y.Streaming
	})
	if !same || i.standbysSince == 0 {
		i.standbysSince = a.cfg.Clock()
	}
	i.standbys = out
}

func (a *Agent) slots() []replication.NodeID {
	var out []replication.NodeID
	for _, s := range a.inst.facts.Slots {
		if !s.Physical || !s.Ours {
			continue
		}
		name := replication.NodeID(s.Name)
		if a.known.snap.Record != nil {
			for _, m := range a.known.snap.Record.Members {
				if postgres.SlotName(m.Name) == s.Name {
					name = m.Name
				}
			}
		}
		out = append(out, name)
	}
	slices.SortFunc(out, compareNames)
	return out
}

func compareNames(x, y replication.NodeID) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	default:
		return 0
	}
}

func directory(d postgres.DataDir) ha.Directory {
	switch {
	case d.RewindInterrupted:
		return ha.DirectoryBroken
	case d.Presence == postgres.Present:
		return ha.DirectoryPresent
	case d.Presence == postgres.Foreign:
		return ha.DirectoryForeign
	case d.Presence == postgres.Empty:
		return ha.DirectoryEmpty
	default:
		return ha.DirectoryAbsent
	}
}

var (
	anyOf  = regexp.MustCompile(`(?i)^\s*ANY\s+(\d+)\s*\((.*)\)\s*$`)
	quoted = regexp.MustCompile(`"((?:[^"]|"")*)"|([^\s,"]+)`)
)

// parseNames reads synchronous_standby_names as SetSync writes it; anything else is a quorum of 0 of one odd name, which
// equals nothing that Decide wants.
func parseNames(setting string) ha.SyncNames {
	if setting == "" {
		return ha.SyncNames{}
	}
	m := anyOf.FindStringSubmatch(setting)
	if m == nil {
		return ha.SyncNames{Names: []replication.NodeID{replication.NodeID(setting)}}
	}
	k, _ := strconv.Atoi(m[1]) // the pattern admits digits only; out of range gives a number that nobody wants
	names := ha.SyncNames{Quorum: k}
	for _, n := range quoted.FindAllStringSubmatch(m[2], -1) {
		names.Names = append(names.Names, replication.NodeID(n[1]+n[2]))
	}
	slices.SortFunc(names.Names, compareNames)
	return names
}

func sameNames(x, y ha.SyncNames) bool {
	return x.Quorum == y.Quorum && slices.Equal(x.Names, y.Names)
}
