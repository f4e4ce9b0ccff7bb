package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// initTTL is how long the lock on initdb outlives its holder.
const initTTL = 60 * time.Second

// leaseResult is what one move of the lease hand came to.
type leaseResult struct {
	move   ha.LeaseMove
	sentAt replication.Instant
	done   bool // it is known to have taken effect
	snap   store.Snapshot
	init   initLock
	err    error
}

// startLease begins one write to the store. The hand stays busy until the store has been read again.
func (a *Agent) startLease(work context.Context, m ha.LeaseMove) {
	ctx, cancel := context.WithCancelCause(work)
	a.leaseH = hand[ha.LeaseMove]{busy: true, since: a.cfg.Clock(), move: m, cancel: cancel}
	if m.Beat != nil {
		a.lease.NextN = max(a.lease.NextN, m.Beat.N+1)
	}
	if m.Kind == ha.LeaseVote {
		a.lease.VoteRisk = max(a.lease.VoteRisk, m.Vote.Epoch)
	}
	if m.Kind == ha.LeaseWrite || m.Kind == ha.LeaseOpen {
		a.lease.RecordRisk = m.RecordRev
	}
	init := a.init
	a.wg.Go(func() { // ends when the store has answered twice, or with ctx
		defer cancel(nil)
		res := a.doLease(ctx, m, init)
		a.post(work, func() { a.endLease(work, res) })
	})
}

// doLease writes, and reads what came of it.
func (a *Agent) doLease(ctx context.Context, m ha.LeaseMove, init initLock) leaseResult {
	res := leaseResult{move: m, sentAt: a.cfg.Clock(), init: init}
	call, cancel := context.WithTimeout(ctx, a.cfg.Timing.RPC)
	var rev int64
	rev, res.init, res.err = a.write(call, m, init)
	cancel()
	res.done = res.err == nil
	if res.done && m.Kind == ha.LeaseRenew {
		// The holder's beat is its alone: what was written is what is there, and the follower reads the rest.
		res.snap = store.Snapshot{BeatRev: rev, Beat: m.Beat}
		return res
	}
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, a.cfg.Timing.RPC)
		snap, err := a.store.Read(call)
		cancel()
		if err == nil {
			res.snap = snap
			res.done = res.done || tookEffect(m, snap, a.cfg.Self.Name)
			return res
		}
		pause(ctx, 50*time.Millisecond)
	}
	return res
}

// write sends the move as one transaction.
func (a *Agent) write(ctx context.Context, m ha.LeaseMove, init initLock) (int64, initLock, error) {
	var rev int64
	var err error
	switch m.Kind {
	case ha.LeaseTakeInit:
		init.lease, init.rev, err = a.store.AcquireInit(ctx, a.cfg.Self.Name, initTTL)
	case ha.LeaseBootstrap:
		rev, err = a.store.CreateRecord(ctx, *m.Record, init.rev)
	case ha.LeaseJoin, ha.LeaseWrite:
		rev, err = a.store.PutRecord(ctx, m.RecordRev, *m.Record)
	case ha.LeaseRenew, ha.LeaseRelease:
		rev, err = a.store.PutBeat(ctx, m.BeatRev, *m.Beat)
	case ha.LeaseVote:
		rev, err = a.store.PutVote(ctx, *m.Vote)
	case ha.LeaseUnvote:
		err = a.store.DeleteVote(ctx, m.Vote.Epoch, m.Vote.Node)
	case ha.LeaseClaim:
		claim := store.Claim{RecordRev: m.RecordRev, BeatRev: m.BeatRev, Record: *m.Record, Beat: *m.Beat}
		for _, v := range m.Counted {
			claim.Votes = append(claim.Votes, store.VoteRev{Vote: ha.Vote{Epoch: m.Record.Epoch, Node: v.Node}, Rev: v.Rev})
		}
		rev, err = a.store.Claim(ctx, claim)
	case ha.LeaseOpen:
		rev, err = a.store.OpenDoor(ctx, store.OpenDoor{
			RecordRev: m.RecordRev, BeatRev: m.BeatRev, Record: *m.Record, Entry: *m.Entry})
	default:
		err = fmt.Errorf("lease move %q is not known", m.Kind)
	}
	return rev, init, err
}

// tookEffect tells from a later snapshot whether a write whose answer was lost happened.
func tookEffect(m ha.LeaseMove, snap store.Snapshot, self replication.NodeID) bool {
	switch m.Kind {
	case ha.LeaseRenew, ha.LeaseRelease, ha.LeaseClaim:
		b := snap.Beat
		return b != nil && b.Nonce == m.Beat.Nonce && b.Epoch == m.Beat.Epoch && b.N == m.Beat.N
	case ha.LeaseOpen:
		e, ok := snap.Entry(m.Entry.Epoch)
		return ok && e.Winner == self
	default:
		return false
	}
}

// endLease takes the result in.
func (a *Agent) endLease(work context.Context, res leaseResult) {
	a.leaseH = hand[ha.LeaseMove]{}
	m := res.move
	if res.err != nil {
		level := a.log.Info
		if m.Kind != ha.LeaseRenew && !errors.Is(res.err, store.ErrConflict) {
			level = a.log.Warn
		}
		level("store move did not go through", "move", m.Kind, "took_effect", res.done, "err", res.err)
	}
	if m.Kind == ha.LeaseRenew && res.snap.SentAt == 0 && res.done {
		a.known.ownBeat(res.snap, a.cfg.Clock())
	} else {
		a.known.take(res.snap, a.cfg.Clock(), &a.lease)
	}
	if !res.done {
		return
	}
	switch m.Kind {
	case ha.LeaseTakeInit:
		a.init = res.init
	case ha.LeaseBootstrap:
		a.remember(func(mem *memory) { mem.Fresh = false })
		a.releaseInit(work)
	case ha.LeaseRenew:
		a.lease.SentAt, a.lease.N = res.sentAt, m.Beat.N
	case ha.LeaseUnvote:
		if a.lease.VoteRisk <= m.Vote.Epoch {
			a.lease.VoteRisk = 0
		}
	case ha.LeaseRelease:
		a.lease = ha.Lease{NextN: a.lease.NextN, VoteRisk: a.lease.VoteRisk}
	case ha.LeaseClaim:
		a.claimed(res)
	case ha.LeaseOpen:
		a.led(work)
	}
	if m.Kind != ha.LeaseRenew {
		a.log.Info("store move", "move", m.Kind, "took", a.cfg.Clock().Sub(res.sentAt))
	}
}

// claimed begins an epoch of this node's.
func (a *Agent) claimed(res leaseResult) {
	m := res.move
	a.lease = ha.Lease{Nonce: m.Beat.Nonce, Epoch: m.Beat.Epoch, SentAt: res.sentAt, N: m.Beat.N, NextN: m.Beat.N + 1,
		VoteRisk: a.lease.VoteRisk, RecordRisk: a.lease.RecordRisk}
}

// ledAfter is how long after the door has opened Led is called: moving the store's leadership costs a round of it, which
// a failover must not pay for.
const ledAfter = 5 * time.Second

// led tells the owner of the agent, a while later, that this node leads.
func (a *Agent) led(work context.Context) {
	if a.cfg.Led == nil {
		return
	}
	a.wg.Go(func() { // ends with work at the latest
		if pause(work, ledAfter); work.Err() == nil {
			a.cfg.Led(work)
		}
	})
}

// releaseInit gives the lock on initdb back in the background; it expires anyway.
func (a *Agent) releaseInit(work context.Context) {
	if a.init.lease == 0 {
		return
	}
	lease := a.init.lease
	a.init = initLock{}
	a.wg.Go(func() { // ends with the call's limit
		ctx, cancel := context.WithTimeout(work, a.cfg.Timing.RPC)
		defer cancel()
		if err := a.store.ReleaseInit(ctx, lease); err != nil {
			a.log.Info("init lock left to expire", "err", err)
		}
	})
}

// ownBeat notes a beat of this node's that is known to have been written.
func (k *knowledge) ownBeat(written store.Snapshot, now replication.Instant) {
	k.snap.Beat, k.snap.BeatRev = written.Beat, written.BeatRev
	k.snap.Revision = max(k.snap.Revision, written.BeatRev)
	k.beatRev, k.beatSince = written.BeatRev, now
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
