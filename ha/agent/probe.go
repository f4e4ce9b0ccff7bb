package agent

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/replication"
)

const (
	probeEvery    = 250 * time.Millisecond // while nothing asks for more
	probeAtMost   = 10 * time.Millisecond  // between two probes, whoever asks
	inspectEvery  = 2 * time.Second        // while PostgreSQL does not run
	maintainEvery = time.Minute            // small chores: the server log is rotated
	hungAfter     = 600 * time.Millisecond // in state T all that time
)

// finding is what one round of the prober brought.
type finding struct {
	postmaster int // that was asked; 0: none ran
	started    uint64
	at         replication.Instant // before the question
	facts      postgres.Facts
	err        error // no answer
	dir        *postgres.DataDir
	dirAt      replication.Instant
}

// probe asks PostgreSQL, or the files while it does not run, until work ends. It is the only goroutine that waits for
// an answer; what it brings is at most one question old.
func (a *Agent) probe(work context.Context) {
	var dirAt, maintainedAt replication.Instant
	var dirTimeline replication.Timeline
	var dirOf uint64
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-work.Done():
			return
		case <-timer.C:
		case <-a.asked:
		}
		procs := a.pg.Processes().Load()
		f := finding{postmaster: procs.Postmaster, started: procs.StartTime, at: a.cfg.Clock()}
		if procs.Postmaster != 0 {
			f.facts, f.err = a.pg.Status(work)
		}
		stale := procs.Postmaster == 0 && f.at.Sub(dirAt) >= inspectEvery || dirOf != procs.StartTime ||
			f.err == nil && procs.Postmaster != 0 && f.facts.Timeline > dirTimeline
		if stale {
			f.dirAt = a.cfg.Clock()
			if dir, err := a.pg.Inspect(work); err == nil {
				f.dir, dirAt, dirOf, dirTimeline = &dir, f.dirAt, procs.StartTime, max(f.facts.Timeline, dir.Timeline)
			} else if work.Err() == nil {
				a.log.Warn("data directory can't be inspected", "err", err)
			}
		}
		if f.at.Sub(maintainedAt) >= maintainEvery {
			maintainedAt = f.at
			a.maintain()
		}
		a.post(work, func() { a.found(f) })
		pause(work, probeAtMost)
		timer.Reset(probeEvery)
	}
}

// look asks PostgreSQL and the files once, after a move: what is decided next must not rest on facts from before it.
// The files are left alone after moves that do not change them: reading them starts a program.
func (a *Agent) look(work context.Context, after ha.PostgresKind) finding {
	procs := a.pg.Processes().Load()
	f := finding{postmaster: procs.Postmaster, started: procs.StartTime, at: a.cfg.Clock()}
	if procs.Postmaster != 0 {
		f.facts, f.err = a.pg.Status(work)
	}
	switch after {
	case ha.PostgresFollow, ha.PostgresFreeze, ha.PostgresPrepare, ha.PostgresNames, ha.PostgresSlots, ha.PostgresInspect:
		return f
	}
	f.dirAt = a.cfg.Clock()
	if dir, err := a.pg.Inspect(work); err == nil {
		f.dir = &dir
	}
	return f
}

// watchState looks whether the postmaster stands still by a signal, until work ends. It asks the kernel, so that a
// PostgreSQL that answers nothing is noticed before a probe has run out of time.
func (a *Agent) watchState(work context.Context) {
	var since replication.Instant // when it was first seen in state T; 0: it goes on
	told := false
	ticker := time.NewTicker(hungAfter / 4)
	defer ticker.Stop()
	for {
		select {
		case <-work.Done():
			return
		case <-ticker.C:
		}
		pid, now := a.pg.Processes().Load().Postmaster, a.cfg.Clock()
		switch {
		case pid == 0 || processState(pid) != 'T':
			since = 0
		case since == 0:
			since = now
		}
		if hung := since != 0 && now.Sub(since) >= hungAfter; hung != told {
			told = hung
			a.post(work, func() { a.inst.hung = hung && a.inst.procs.Postmaster == pid })
		}
	}
}

// processState reads the state letter of /proc/PID/stat (proc(5)); 0 when the process is gone.
func processState(pid int) byte {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(stat), ") ") // the name before it may hold anything
	if !ok || rest == "" {
		return 0
	}
	return rest[0]
}

// maintain does small chores away from the prober: they wait for the disk. There is at most one at a time.
func (a *Agent) maintain() {
	if !a.maintaining.CompareAndSwap(false, true) {
		return
	}
	a.wg.Go(func() { // ends with the chores
		defer a.maintaining.Store(false)
		a.pg.Maintain()
	})
}

// found takes a finding in, unless it was begun before the last move had ended, or is older than what is known.
func (a *Agent) found(f finding) {
	i := &a.inst
	if f.at < a.pgEnded {
		a.askProbe()
		return
	}
	if f.dir != nil {
		i.setDir(*f.dir, f.dirAt)
	}
	if f.postmaster != i.procs.Postmaster || f.started != i.procs.StartTime {
		return // about a process that has ended
	}
	switch {
	case f.postmaster == 0:
	case f.err != nil:
		if f.at.Sub(i.failedAt) < a.cfg.Timing.Probe {
			break // a failure stands for a second without an answer, however fast it was refused
		}
		i.failures, i.failedAt = i.failures+1, f.at
		if i.failures == 1 && i.answered {
			a.log.Info("PostgreSQL does not answer", "err", f.err)
		}
	case f.facts.At >= i.facts.At:
		i.setFacts(f.facts)
		a.noteStandbys()
	}
}
