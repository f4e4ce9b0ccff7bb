package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/replication"
)

const (
	shortMove   = 15 * time.Second // a move that is a few statements or signals
	killLimit   = 30 * time.Second // of one KillWhole; it is tried again
	promoteTime = 60 * time.Second
	retryFirst  = time.Second // after the first failed clone, rewind or start; doubled up to retryMost
	retryMost   = 30 * time.Second
)

// startPostgres begins one move of the instance.
func (a *Agent) startPostgres(work context.Context, m ha.PostgresMove) {
	if err := a.foresee(m); err != nil {
		a.log.Error("the agent's memory can't be written, nothing is moved", "move", m.Kind, "err", err)
		return
	}
	ctx, cancel := context.WithCancelCause(work)
	started := a.cfg.Clock()
	a.inst.stopsStandby = a.inst.answered && a.inst.facts.InRecovery && a.inst.facts.At > a.pgEnded
	a.pgH = hand[ha.PostgresMove]{busy: true, since: started, move: m, cancel: cancel}
	if m.Kind == ha.PostgresNames || m.Kind == ha.PostgresPromote {
		a.inst.namesAt, a.inst.names, a.inst.namesFloor = 0, ha.SyncNames{}, 0 // whatever becomes of it
	}
	d := a.doer(m)
	a.log.Info("moving PostgreSQL", "move", m.Kind, "source", m.Source)
	a.wg.Go(func() { // ends with the move, whose time is limited, or with ctx
		defer cancel(nil)
		after, err := d(ctx)
		ended := a.cfg.Clock()
		seen := a.look(work, m.Kind)
		a.post(work, func() {
			a.pgH = hand[ha.PostgresMove]{}
			a.inst.setProcesses(a.pg.Processes().Load(), a.cfg.Clock())
			a.endPostgres(m, started, ended, after, err)
			a.found(seen)
		})
	})
}

// endPostgres takes the outcome of a move in.
func (a *Agent) endPostgres(m ha.PostgresMove, started, ended replication.Instant, after func(), err error) {
	took := ended.Sub(started)
	if err != nil {
		a.log.Warn("PostgreSQL was not moved", "move", m.Kind, "took", took, "err", err)
	} else {
		a.log.Info("moved PostgreSQL", "move", m.Kind, "took", took)
	}
	a.pgLast, a.pgEnded = m, ended
	if after != nil {
		after()
	}
	switch m.Kind {
	case ha.PostgresClone, ha.PostgresRewind, ha.PostgresReclone, ha.PostgresStart, ha.PostgresReadEnd:
		a.inst.copied = ""
		if err == nil {
			a.inst.attempts, a.inst.retryAt = 0, 0
			break
		}
		a.inst.retryAt = a.cfg.Clock().Add(min(retryFirst<<min(a.inst.attempts, 5), retryMost))
		a.inst.attempts++
	}
	a.askProbe()
}

// foresee writes down what the move may do before it is begun.
func (a *Agent) foresee(m ha.PostgresMove) error {
	next := a.memory
	switch m.Kind {
	case ha.PostgresInitdb:
		next = memory{Fresh: true}
	case ha.PostgresStart:
		next.Follows = m.Source
		if m.Lineage != nil {
			next.Lineage = m.Lineage
		}
	case ha.PostgresClone, ha.PostgresReclone, ha.PostgresRewind:
		next.Lineage = nil
	case ha.PostgresFollow:
		next.Lineage, next.Follows = m.Lineage, m.Source
	case ha.PostgresPromote:
		next.Lineage = m.Lineage
	default:
		return nil
	}
	if err := next.write(a.cfg.StateDir); err != nil {
		return err
	}
	a.memory = next
	return nil
}

// remember changes the memory; what can't be written is kept in mind and logged, since the move has happened.
func (a *Agent) remember(change func(*memory)) {
	change(&a.memory)
	if err := a.memory.write(a.cfg.StateDir); err != nil {
		a.log.Error("the agent's memory can't be written", "err", err)
	}
}

// doer returns what carries the move out, away from the loop. The function that it returns in turn is called by the
// loop at the end, whether there was an error or not.
type doer func(ctx context.Context) (after func(), err error)

func (a *Agent) doer(m ha.PostgresMove) doer {
	switch m.Kind {
	case ha.PostgresInitdb:
		return limited(5*time.Minute, a.pg.Initdb)
	case ha.PostgresStart:
		return a.doStart(m)
	case ha.PostgresFollow:
		up := a.upstream(m.Source)
		return limited(shortMove, func(ctx context.Context) error { return a.pg.Follow(ctx, up) })
	case ha.PostgresFreeze:
		return a.doFreeze
	case ha.PostgresPrepare:
		return a.doPrepare
	case ha.PostgresPromote:
		return a.doPromote(m)
	case ha.PostgresNames:
		return a.doNames(m.Names)
	case ha.PostgresSlots:
		return limited(shortMove, func(ctx context.Context) error { return a.pg.EnsureSlots(ctx, m.Slots) })
	case ha.PostgresStopFast:
		return a.doStop
	case ha.PostgresKillWhole:
		return limited(killLimit, a.pg.KillWhole)
	case ha.PostgresReadEnd:
		return a.doReadEnd()
	case ha.PostgresInspect:
		return a.doInspect(m)
	case ha.PostgresClone, ha.PostgresReclone:
		return a.doClone(m)
	case ha.PostgresDropFresh:
		return a.doSetAside
	case ha.PostgresRewind:
		return a.doRewind(m)
	default:
		return func(context.Context) (func(), error) { return nil, fmt.Errorf("move %q is not known", m.Kind) }
	}
}

// limited is a doer without consequences.
func limited(limit time.Duration, move func(context.Context) error) doer {
	return func(ctx context.Context) (func(), error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return nil, move(ctx)
	}
}

// upstream returns where the member is reached; the zero Upstream for nobody.
func (a *Agent) upstream(name replication.NodeID) postgres.Upstream {
	m, ok := a.known.member(name)
	if !ok {
		return postgres.Upstream{}
	}
	return postgres.Upstream{Node: m.Name, Host: m.Host, Port: m.Port}
}

func (a *Agent) doStart(m ha.PostgresMove) doer {
	o := postgres.StartOptions{Follow: a.upstream(m.Source), Minimums: a.inst.minimums}
	return limited(shortMove, func(ctx context.Context) error {
		err := a.pg.Start(ctx, o)
		if err != nil && a.pg.Processes().Load().Postmaster != 0 && errors.Is(err, context.DeadlineExceeded) {
			return nil // it recovers; the prober tells when it answers
		}
		return err
	})
}

func (a *Agent) doFreeze(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, shortMove)
	defer cancel()
	if _, err := a.pg.Freeze(ctx); err != nil {
		return nil, err
	}
	return func() { a.remember(func(mem *memory) { mem.Follows = "" }) }, nil
}

func (a *Agent) doPrepare(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, shortMove)
	defer cancel()
	c, err := a.pg.Capture(ctx)
	if err != nil {
		return nil, err
	}
	return func() { a.inst.capturedXID, a.inst.capturedEnd = c.NextXID, c.Replayed }, nil
}

// doPromote sets the names first, so that no commit of the new epoch is acknowledged by fewer than the record says.
func (a *Agent) doPromote(m ha.PostgresMove) doer {
	// Until an epoch has an entry in the ledger none has made the roles: the first claim may have failed half way.
	bootstrap := len(a.known.snap.Ledger) == 0
	deadline := a.armed
	return func(ctx context.Context) (func(), error) {
		ctx, cancel := context.WithTimeout(ctx, promoteTime)
		defer cancel()
		if deadline.Armed() {
			if err := a.pg.Arm(ctx, deadline); err != nil {
				return nil, fmt.Errorf("arm the guard before promotion: %w", err)
			}
		}
		if err := a.pg.SetSync(ctx, m.Names.Names, m.Names.Quorum); err != nil {
			return nil, fmt.Errorf("set synchronous names before promotion: %w", err)
		}
		named := a.cfg.Clock()
		if _, err := a.pg.Promote(ctx); err != nil {
			return nil, err
		}
		done := a.cfg.Clock()
		var err error
		if bootstrap {
			err = a.pg.EnsureRoles(ctx)
		}
		return func() {
			i := &a.inst
			i.namesAt, i.names, i.namesFloor = named, m.Names, 0
			i.recoveredAt, i.checkpointed = done, false
		}, err
	}
}

func (a *Agent) doNames(names ha.SyncNames) doer {
	return func(ctx context.Context) (func(), error) {
		ctx, cancel := context.WithTimeout(ctx, shortMove)
		defer cancel()
		if err := a.pg.SetSync(ctx, names.Names, names.Quorum); err != nil {
			return nil, err
		}
		done := a.cfg.Clock()
		return func() { a.inst.namesAt, a.inst.names, a.inst.namesFloor = done, names, 0 }, nil
	}
}

func (a *Agent) doStop(ctx context.Context) (func(), error) {
	limit, cancel := context.WithTimeout(ctx, a.cfg.Timing.Stop)
	defer cancel()
	stopped, err := a.pg.StopFast(limit)
	if err != nil {
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), killLimit)
		defer cancel()
		return nil, errors.Join(err, a.pg.KillWhole(kill))
	}
	return func() { a.inst.end = stopped.End }, nil
}

func (a *Agent) doReadEnd() doer {
	from, timeline := a.inst.last.Position, a.inst.dir.Timeline
	if a.inst.last.Timeline != timeline {
		from = 0
	}
	return func(ctx context.Context) (func(), error) {
		ctx, cancel := context.WithTimeout(ctx, a.cfg.Timing.Start)
		defer cancel()
		end, err := a.pg.EndOfWAL(ctx, timeline, from)
		if err != nil {
			return nil, err
		}
		return func() { a.inst.end = end }, nil
	}
}

func (a *Agent) doInspect(m ha.PostgresMove) doer {
	up := a.upstream(m.Source)
	var epoch replication.Epoch
	if r := a.known.snap.Record; r != nil {
		epoch = r.Epoch
	}
	return func(ctx context.Context) (func(), error) {
		ctx, cancel := context.WithTimeout(ctx, shortMove)
		defer cancel()
		facts, err := a.pg.UpstreamFacts(ctx, up.Host, up.Port)
		if err != nil {
			return nil, fmt.Errorf("ask %s about itself: %w", m.Source, err)
		}
		return func() {
			a.inst.minimums = facts.Minimums
			a.inst.rejoin = &ha.RejoinFacts{
				Epoch: epoch, Source: m.Source, SystemID: facts.SystemID, Timeline: facts.Timeline, Flush: facts.Flush,
				History: facts.History, InRecovery: facts.InRecovery,
				Checkpointed: facts.Checkpointed, WALFrom: facts.WALFrom,
			}
		}, nil
	}
}

func (a *Agent) doClone(m ha.PostgresMove) doer {
	o := postgres.CloneOptions{Source: a.upstream(m.Source), MaxRate: a.cfg.CloneMax}
	copies := a.pg.Reclone
	if m.Kind == ha.PostgresClone {
		copies = a.pg.Clone
	}
	return func(ctx context.Context) (func(), error) {
		o.Progress = func(done, total uint64) {
			text := fmt.Sprintf("copied %d of %d MB", done>>20, total>>20)
			a.post(ctx, func() { a.inst.copied = text })
		}
		if err := copies(ctx, o); err != nil {
			return nil, err
		}
		return func() { a.replaced(m.Lineage) }, nil
	}
}

func (a *Agent) doRewind(m ha.PostgresMove) doer {
	o := postgres.RewindOptions{Source: a.upstream(m.Source),
		Fork: postgres.Position{Timeline: a.inst.dir.Timeline, LSN: m.Fork}}
	return func(ctx context.Context) (func(), error) {
		loss, err := a.pg.Rewind(ctx, o)
		switch {
		case errors.Is(err, postgres.ErrNotCheckpoint):
			return nil, err // only too early
		case errors.Is(err, postgres.ErrRewindBroken):
			return func() { a.remember(func(mem *memory) { mem.RewindFailed = true }) }, err
		case err != nil:
			return nil, err
		}
		return func() {
			a.log.Warn("WAL past the fork was given up", "commits", loss.Commits, "bytes", loss.Bytes,
				"fork", loss.ForkLSN, "end", loss.EndLSN, "kept_in", loss.Dir)
			a.replaced(m.Lineage)
		}, nil
	}
}

func (a *Agent) doSetAside(ctx context.Context) (func(), error) {
	path, err := a.pg.SetAside(ctx)
	if err != nil {
		return nil, err
	}
	a.log.Warn("data directory put aside", "path", path)
	return func() { a.replaced(nil) }, nil
}

// replaced notes that the directory is a copy of a member's now.
func (a *Agent) replaced(lineage *ha.Lineage) {
	a.remember(func(mem *memory) { *mem = memory{Lineage: lineage} })
	a.inst.end, a.inst.rejoin = 0, nil
}

// startCheckpoint runs a checkpoint beside the hand; there is at most one.
func (a *Agent) startCheckpoint(work context.Context, o ha.Observation) {
	if a.inst.checkpointing || o.Instance.Process != ha.ProcessRunning {
		return
	}
	a.inst.checkpointing = true
	started := a.cfg.Clock()
	a.wg.Go(func() { // ends with the statement, or with work
		ctx, cancel := context.WithTimeout(work, 10*time.Minute)
		defer cancel()
		// Promotion makes the roles of a new cluster; this mends them should it have failed there, or after an upgrade.
		if err := a.pg.EnsureRoles(ctx); err != nil {
			a.log.Warn("walgate's roles are not as they should be", "err", err)
		}
		err := a.pg.Checkpoint(ctx)
		a.post(work, func() {
			a.inst.checkpointing = false
			if err != nil {
				a.log.Warn("checkpoint did not complete", "err", err)
				return
			}
			a.inst.checkpointed, a.inst.checkpointAt = true, started
			a.log.Info("checkpoint completed", "took", a.cfg.Clock().Sub(started))
		})
	})
}
