package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// Rewind copies the WAL past the fork aside with a report of the loss, runs pg_rewind against a primary, and leaves a
// data directory that starts as standby. ErrNotCheckpoint asks to come back later; ErrRewindBroken says that the data
// directory is half changed and only Reclone helps; any other error left it as it was.
func (i *Instance) Rewind(ctx context.Context, o RewindOptions) (Loss, error) {
	defer i.exclusive()()
	loss, err := i.rewind(ctx, o)
	if err != nil {
		return loss, fmt.Errorf("rewind to %s: %w", o.Source.Node, err)
	}
	return loss, nil
}

func (i *Instance) rewind(ctx context.Context, o RewindOptions) (Loss, error) {
	if exists(i.markerPath()) {
		return Loss{}, ErrRewindBroken
	}
	if err := i.mustBeDead(); err != nil {
		return Loss{}, err
	}
	d, err := i.Inspect(ctx)
	if err != nil {
		return Loss{}, err
	}
	if d.Presence != Present {
		return Loss{}, fmt.Errorf("%s is %s: %w", i.cfg.DataDir, d.Presence, ErrNotPresent)
	}
	if err := i.checkSource(ctx, d, o.Source); err != nil {
		return Loss{}, err
	}
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return Loss{}, err
	}
	loss, err := i.saveWAL(ctx, owner, d, o.Fork)
	if err != nil {
		return loss, fmt.Errorf("save the WAL past the fork: %w", err)
	}
	return loss, i.runRewind(ctx, owner, o)
}

// checkSource refuses a source from which pg_rewind would go wrong.
func (i *Instance) checkSource(ctx context.Context, d DataDir, source Upstream) error {
	facts, err := i.UpstreamFacts(ctx, source.Host, source.Port)
	switch {
	case err != nil:
		return err
	case facts.SystemID != d.Control.SystemID:
		return fmt.Errorf("the source has system identifier %s, this node %s", facts.SystemID, d.Control.SystemID)
	case facts.InRecovery:
		return fmt.Errorf("the source is in recovery: %w", ErrNotCheckpoint)
	case !facts.Checkpointed && d.Control.Version < 16:
		// Before 16 pg_rewind reads the source's timeline from its last checkpoint.
		return ErrNotCheckpoint
	}
	return nil
}

// saveWAL copies the WAL that the rewind discards into <data>-lost/<timeline>-<lsn>/, and writes the report.
func (i *Instance) saveWAL(ctx context.Context, owner *guard.Owner, d DataDir, fork Position) (Loss, error) {
	loss := Loss{
		Node: i.cfg.Node, SystemID: d.Control.SystemID, Timeline: d.Timeline, ForkLSN: fork.LSN, At: time.Now().UTC(),
	}
	var err error
	if loss.EndLSN, err = i.endOfWAL(ctx, d.Timeline, 0); err != nil {
		return loss, err
	}
	if loss.Bytes = loss.EndLSN.BytesPast(fork.LSN); loss.Bytes == 0 {
		return loss, nil
	}
	i.countCommits(ctx, &loss, fork)
	parent := i.cfg.DataDir + "-lost"
	if err := makeDir(owner, parent); err != nil {
		return loss, err
	}
	loss.Dir = filepath.Join(parent, fmt.Sprintf("%d-%08X%08X", fork.Timeline, uint32(fork.LSN>>32), uint32(fork.LSN)))
	if err := makeDir(owner, loss.Dir); err != nil {
		return loss, err
	}
	files, err := os.ReadDir(filepath.Join(i.cfg.DataDir, "pg_wal"))
	if err != nil {
		return loss, fmt.Errorf("list WAL: %w", err)
	}
	for _, f := range files {
		tl, start, ok := parseSegment(f.Name(), d.Control.SegmentBytes)
		past := ok && tl >= fork.Timeline && int64(start)+d.Control.SegmentBytes > int64(fork.LSN) && start <= loss.EndLSN
		if !past && !strings.HasSuffix(f.Name(), ".history") {
			continue
		}
		to := filepath.Join(loss.Dir, f.Name())
		if err := copyFile(filepath.Join(i.cfg.DataDir, "pg_wal", f.Name()), to, max(d.Control.SegmentBytes, 1<<20)); err != nil {
			return loss, err
		}
		if err := give(owner, to); err != nil {
			return loss, err
		}
		loss.Files = append(loss.Files, f.Name())
		if ctx.Err() != nil {
			return loss, context.Cause(ctx)
		}
	}
	slices.Sort(loss.Files)
	report, err := json.MarshalIndent(loss, "", "  ")
	if err != nil {
		return loss, fmt.Errorf("word the report: %w", err)
	}
	i.log.Warn("WAL past the fork is discarded; a copy is kept", "dir", loss.Dir, "bytes", loss.Bytes, "commits", loss.Commits)
	return loss, writeFile(owner, filepath.Join(loss.Dir, "loss.json"), append(report, '\n'))
}

// countCommits counts the transactions past the fork, as pg_waldump words them: "desc: COMMIT 2026-01-02 03:04:05.6 UTC".
func (i *Instance) countCommits(ctx context.Context, loss *Loss, fork Position) {
	// pg_waldump ends with an error at the end of the log; a count that is cut short is still a count.
	_ = i.waldump(ctx, func(line []byte) {
		_, desc, ok := strings.Cut(string(line), "desc: COMMIT")
		if !ok {
			return
		}
		_, at, ok := strings.Cut(desc, " ") // COMMIT or COMMIT_PREPARED, its time follows
		if !ok {
			return
		}
		if semicolon := strings.IndexByte(at, ';'); semicolon >= 0 {
			at = at[:semicolon]
		}
		loss.Commits++
		loss.LastCommit = at
		if loss.FirstCommit == "" {
			loss.FirstCommit = at
		}
	}, "-t", fmt.Sprint(uint32(loss.Timeline)), "-s", fork.LSN.String(), "-r", "Transaction")
}

// runRewind runs pg_rewind between marker and unmark.
func (i *Instance) runRewind(ctx context.Context, owner *guard.Owner, o RewindOptions) error {
	bins, err := i.binaries(ctx)
	if err != nil {
		return err
	}
	if err := writeFile(owner, i.statePath("passfile"), []byte(i.passfile())); err != nil {
		return err
	}
	control := filepath.Join(i.cfg.DataDir, "global", "pg_control")
	if err := copyFile(control, i.statePath("pg_control.before-rewind"), 64<<10); err != nil {
		return err
	}
	// pg_rewind recovers an unclean target in single-user mode, which refuses to be a standby. No process of the instance
	// lives, so a pid file is stale.
	for _, name := range []string{"standby.signal", "recovery.signal", "postmaster.pid"} {
		if err := os.Remove(filepath.Join(i.cfg.DataDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("prepare the data directory: %w", err)
		}
	}
	if err := writeFile(owner, i.markerPath(), []byte(time.Now().UTC().Format(time.RFC3339)+"\n")); err != nil {
		return err
	}
	changing := false
	_, err = i.run(ctx, job{
		path: bins.path("pg_rewind"), env: []string{"PGPASSFILE=" + i.statePath("passfile")},
		args: []string{
			"--target-pgdata", i.cfg.DataDir, "--source-server", i.toolConninfo(o.Source, RoleRewind), "--progress",
		},
		lines: func(line string) { changing = changing || strings.Contains(line, "need to copy") },
	})
	if err != nil {
		if changing {
			return fmt.Errorf("%w: %w", ErrRewindBroken, err)
		}
		return errors.Join(err, i.unmark()) // it had only read so far
	}
	if err := removeSlotFiles(i.cfg.DataDir); err != nil {
		return err
	}
	if err := writeFile(owner, filepath.Join(i.cfg.DataDir, "standby.signal"), nil); err != nil {
		return err
	}
	return i.unmark()
}
