package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/walgate/walgate/replication"
)

// FollowerConfig tells how closely a Follower follows.
type FollowerConfig struct {
	Period  time.Duration // R: reads at least this often
	Gap     time.Duration // least time between two reads; changes announced within it are read together
	Timeout time.Duration // O: of one read
	// Margin is taken off every grant: clock drift over one ttl, and the time an acknowledgement may spend between the
	// gate and the client's socket.
	Margin time.Duration
	Clock  func() replication.Instant // CLOCK_BOOTTIME
}

// Source is what a Follower reads; *Store is one.
type Source interface {
	Read(ctx context.Context) (Snapshot, error)
	Watch(ctx context.Context, changed func())
	Cluster() string
}

// Follower keeps what the store last said, for everything else on this machine: the newest Snapshot, the View made of
// it, and the Gate that grants writes. One goroutine calls Run; everything else is safe for concurrent use.
type Follower struct {
	cfg    FollowerConfig
	source Source
	log    *slog.Logger
	wake   chan struct{} // capacity 1; never closed

	snapshots replication.Feed[Snapshot]
	views     replication.Feed[replication.View]
	gate      replication.Gate

	mu      sync.Mutex
	lastErr error // of the newest read; nil when it succeeded

	// Only Run touches the rest.
	prev     Snapshot
	seen     bool                // prev is set
	olderAt  replication.Instant // when the last read that showed an older beat than prev's was sent; 0: there was none
	viewRev  int64               // of the record whose view was published
	failures int
}

// NewFollower returns a follower of the source.
func NewFollower(cfg FollowerConfig, source Source, log *slog.Logger) (*Follower, error) {
	if cfg.Period <= 0 || cfg.Gap < 0 || cfg.Timeout <= 0 || cfg.Margin < 0 || cfg.Clock == nil {
		return nil, errors.New("follower: period, timeout and clock are required")
	}
	f := &Follower{cfg: cfg, source: source, log: log, wake: make(chan struct{}, 1)}
	f.views.Publish(replication.View{Cluster: source.Cluster()})
	return f, nil
}

// Snapshots is the feed of snapshots; the zero Snapshot until the first read has succeeded.
func (f *Follower) Snapshots() *replication.Feed[Snapshot] { return &f.snapshots }

// Views is the feed of views; it changes when the record does.
func (f *Follower) Views() *replication.Feed[replication.View] { return &f.views }

// Gate is the gate that this follower keeps. It shuts by itself when reads cease.
func (f *Follower) Gate() *replication.Gate { return &f.gate }

// Err returns why the newest read gave no snapshot; nil when it did.
func (f *Follower) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastErr
}

// Wake asks for a read soon. It never blocks.
func (f *Follower) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Run reads every period and at each announced change until ctx ends. It returns the context's cause.
func (f *Follower) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { f.source.Watch(ctx, f.Wake) }) // ends with ctx
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		started := time.Now()
		f.read(ctx)
		timer.Reset(f.cfg.Period - time.Since(started))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		case <-f.wake:
			if err := sleep(ctx, f.cfg.Gap-time.Since(started)); err != nil {
				return err
			}
		}
	}
}

// read asks once and publishes the answer. What was known before stands when there is no answer: the gate's deadline
// ends it.
func (f *Follower) read(ctx context.Context) {
	readCtx, cancel := context.WithTimeout(ctx, f.cfg.Timeout)
	snap, err := f.source.Read(readCtx)
	cancel()
	if err == nil {
		f.accept(snap)
	} else if ctx.Err() == nil {
		f.refuse(err)
	}
	f.mu.Lock()
	f.lastErr = err
	f.mu.Unlock()
	f.report(ctx, err)
}

// accept takes a snapshot in: the gate first, so that nobody who sees the new view finds the old grant.
func (f *Follower) accept(snap Snapshot) {
	switch {
	case !f.seen || snap.Revision < f.prev.Revision:
		// No earlier read, or a store that went back in time (restored from a backup): nothing bounds the beat's age.
		f.olderAt, f.viewRev = 0, 0
	case snap.BeatRev != f.prev.BeatRev:
		f.olderAt = f.prev.SentAt
	}
	f.prev, f.seen = snap, true
	f.gate.Set(f.grant())
	if snap.RecordRev != f.viewRev {
		f.viewRev = snap.RecordRev
		view := replication.View{Cluster: f.source.Cluster()}
		if snap.Record != nil {
			view = snap.Record.View()
		}
		f.views.Publish(view)
	}
	f.snapshots.Publish(snap)
}

// grant derives the gate from the newest snapshot. The beat seen now was written after the last read that still showed
// an older one was sent, so nobody can claim the next epoch before that moment plus ttl; without such a read (the first
// one after a start) there is no grant.
func (f *Follower) grant() replication.Grant {
	record, beat := f.prev.Record, f.prev.Beat
	switch {
	case record == nil || beat == nil || f.olderAt == 0:
		return replication.Grant{}
	case !record.Open || beat.Release != nil || beat.Epoch != record.Epoch || beat.Holder != record.Primary:
		return replication.Grant{}
	}
	ttl := record.Settings.TTL
	if beat.TTL > 0 {
		ttl = min(ttl, beat.TTL) // the setting has changed, or the holder does not use it
	}
	return replication.Grant{Epoch: record.Epoch, Deadline: f.olderAt.Add(ttl - f.cfg.Margin)}
}

// refuse shuts the gate when the store holds what cannot be understood: it may say that the epoch has ended.
func (f *Follower) refuse(err error) {
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		f.gate.Set(replication.Grant{})
	}
}

// report logs the first failure of a row and its end.
func (f *Follower) report(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if f.failures == 0 {
			f.log.Warn("store does not answer", "err", err)
		}
		f.failures++
	case f.failures > 0:
		f.log.Info("store answers again", "failed_reads", f.failures)
		f.failures = 0
	}
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", context.Cause(ctx))
	}
}
