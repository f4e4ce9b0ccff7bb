package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
)

// Capture waits until replay is complete on positive evidence, and returns the next xid and the end of replay. Freeze
// first: while a receiver runs there is no end.
func (i *Instance) Capture(ctx context.Context) (Captured, error) {
	defer i.exclusive()()
	c, err := i.capture(ctx)
	if err != nil {
		return c, fmt.Errorf("finish replay: %w", err)
	}
	return c, nil
}

func (i *Instance) capture(ctx context.Context) (Captured, error) {
	var last replication.LSN
	for complete := 0; complete < 2; {
		f, err := i.Status(ctx)
		switch {
		case err != nil:
			return Captured{}, err
		case !f.InRecovery:
			return Captured{}, errors.New("it is a primary already")
		case f.ReplayPaused:
			return Captured{}, ErrReplayPaused
		case f.ReplayComplete && f.Receiver == nil && f.Replayed == last:
			complete++
		default:
			complete = 0
		}
		last = f.Replayed
		if complete < 2 {
			if err := pause(ctx); err != nil {
				return Captured{}, err
			}
		}
	}
	c := Captured{Replayed: last}
	err := i.with(ctx, func(conn *pgconn.PgConn) error {
		text, err := one(ctx, conn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
		if err != nil {
			return fmt.Errorf("read next xid: %w", err)
		}
		c.NextXID, err = strconv.ParseUint(text, 10, 64)
		return err
	})
	return c, err
}

// Promote promotes, verifies that recovery has ended, and reads the history file. It finishes replay first (Capture)
// and is done at once when recovery has ended before.
func (i *Instance) Promote(ctx context.Context) (Promotion, error) {
	defer i.exclusive()()
	p, err := i.promote(ctx)
	if err != nil {
		return p, fmt.Errorf("promote: %w", err)
	}
	return p, nil
}

func (i *Instance) promote(ctx context.Context) (Promotion, error) {
	f, err := i.Status(ctx)
	if err != nil {
		return Promotion{}, err
	}
	p := Promotion{Already: !f.InRecovery}
	if f.InRecovery {
		c, err := i.capture(ctx)
		if err != nil {
			return p, err
		}
		p.NextXID, p.Replayed = c.NextXID, c.Replayed
		// Waiting inside pg_promote would be in steps of 100 ms.
		if err := i.with(ctx, func(conn *pgconn.PgConn) error {
			_, err := one(ctx, conn, "SELECT pg_promote(false)")
			return err
		}); err != nil {
			return p, err
		}
	}
	for f.InRecovery {
		if err := pause(ctx); err != nil {
			return p, err
		}
		if i.life.Load().Postmaster == 0 {
			return p, fmt.Errorf("%w: %s", ErrNotRunning, i.lastWords())
		}
		if f, err = i.Status(ctx); err != nil {
			return p, err
		}
	}
	history, err := readHistory(i.cfg.DataDir, f.Timeline)
	if err != nil {
		return p, err
	}
	p.Timeline = f.Timeline
	if n := len(history); n > 0 {
		p.ForkLSN = history[n-1].LSN
	}
	return p, nil
}

// Checkpoint runs an immediate checkpoint: call it in the background.
func (i *Instance) Checkpoint(ctx context.Context) error {
	if err := i.with(ctx, func(conn *pgconn.PgConn) error { return execute(ctx, conn, "CHECKPOINT") }); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}
