package agent

import (
	"context"
	"errors"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// stop ends the node as planned: PostgreSQL is shut down while the lease is kept, and then the lease is released with
// the position at which it ended, so that nobody has to wait for its expiry. ctx does not end; every step has a limit.
func (a *Agent) stop(ctx context.Context) error {
	procs := a.pg.Processes().Load()
	if procs.Postmaster == 0 {
		return a.quitGuard(ctx)
	}
	holder := a.holder()
	a.log.Info("stopping PostgreSQL", "holder", holder)
	beating, stopBeating := context.WithCancel(ctx)
	done := make(chan struct{}) // closed by the goroutine below
	go func() {                 // ends with stopBeating
		defer close(done)
		if holder {
			a.beatOn(beating)
		}
	}()
	stopped, err := a.stopPostgres(ctx)
	stopBeating()
	<-done
	if err != nil {
		return errors.Join(err, a.quitGuard(ctx))
	}
	if holder {
		a.releaseAt(ctx, stopped)
	}
	return a.quitGuard(ctx)
}

func (a *Agent) holder() bool {
	r, b := a.known.snap.Record, a.known.snap.Beat
	return r != nil && b != nil && r.Primary == a.cfg.Self.Name && r.Epoch == a.lease.Epoch && b.Nonce == a.lease.Nonce &&
		b.Release == nil
}

// stopPostgres shuts down, and kills what does not go.
func (a *Agent) stopPostgres(ctx context.Context) (postgres.Stopped, error) {
	limit, cancel := context.WithTimeout(ctx, a.cfg.Timing.Stop)
	defer cancel()
	stopped, err := a.pg.StopFast(limit)
	if err == nil {
		return stopped, nil
	}
	a.log.Warn("PostgreSQL did not shut down in time and is killed", "err", err)
	kill, cancelKill := context.WithTimeout(ctx, killLimit)
	defer cancelKill()
	if err := a.pg.KillWhole(kill); err != nil {
		return postgres.Stopped{}, err
	}
	read, cancelRead := context.WithTimeout(ctx, a.cfg.Timing.Start)
	defer cancelRead()
	end, err := a.pg.EndOfWAL(read, a.inst.last.Timeline, a.inst.last.Position)
	return postgres.Stopped{Timeline: a.inst.last.Timeline, End: end}, err
}

// beatOn renews the lease and the guard's deadline until ctx ends or the lease is lost.
func (a *Agent) beatOn(ctx context.Context) {
	for ctx.Err() == nil {
		sent := a.cfg.Clock()
		beat := *a.known.snap.Beat
		beat.N = a.lease.NextN
		a.lease.NextN++
		call, cancel := context.WithTimeout(ctx, a.cfg.Timing.RPC)
		rev, err := a.store.PutBeat(call, a.known.snap.BeatRev, beat)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				a.log.Warn("the lease is not renewed any more", "err", err)
			}
			return
		}
		a.known.snap.Beat, a.known.snap.BeatRev = &beat, rev
		a.lease.SentAt = sent
		if !a.known.snap.Record.Paused {
			d := postgres.Deadline{Epoch: a.lease.Epoch, Nonce: a.lease.Nonce,
				At: sent.Add(a.timing.TTL - a.timing.Margin + a.timing.Kill)}
			if err := a.pg.Arm(ctx, d); err != nil && ctx.Err() == nil {
				a.log.Warn("the guard was not told its deadline", "err", err)
			}
		}
		pause(ctx, a.timing.Renew)
	}
}

// releaseAt writes the last will. When it does not arrive, the lease expires by itself.
func (a *Agent) releaseAt(ctx context.Context, s postgres.Stopped) {
	kind := ha.ReleaseCrash
	if s.Clean {
		kind = ha.ReleaseClean
	}
	for range 3 {
		read, cancel := context.WithTimeout(ctx, a.cfg.Timing.RPC)
		snap, err := a.store.Read(read)
		if err == nil && (snap.Beat == nil || snap.Beat.Nonce != a.lease.Nonce || snap.Beat.Release != nil) {
			cancel()
			return
		}
		if err == nil {
			origin, known := originOf(snap, s.Timeline)
			if !known {
				cancel()
				a.log.Warn("the lease is left to expire: no beat has told of this timeline yet", "timeline", s.Timeline)
				return
			}
			beat := *snap.Beat
			beat.N = max(a.lease.NextN, beat.N+1)
			beat.Release = &ha.Release{Kind: kind, Origin: origin, Timeline: s.Timeline, LSN: s.End}
			_, err = a.store.PutBeat(read, snap.BeatRev, beat)
		}
		cancel()
		if err == nil {
			a.log.Info("released the lease", "kind", kind, "end", s.End)
			return
		}
		a.log.Warn("the lease is not released", "err", err)
		pause(ctx, 100*time.Millisecond)
	}
}

// originOf returns the epoch that made the timeline on which the holder's WAL ended. The newest beat may be from before
// the promotion; then it is the holder's own epoch, if that has opened with this timeline.
func originOf(snap store.Snapshot, timeline replication.Timeline) (origin replication.Epoch, ok bool) {
	beat, record := snap.Beat, snap.Record
	if beat.Timeline == timeline {
		return beat.Origin, true
	}
	return beat.Epoch, record != nil && record.Open && record.Epoch == beat.Epoch && record.Timeline == timeline
}

func (a *Agent) quitGuard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shortMove)
	defer cancel()
	return a.pg.QuitGuard(ctx)
}
