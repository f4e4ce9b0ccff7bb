package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walgate/walgate/replication"
)

// Sizes of the write-ahead log (src/include/access/xlog_internal.h); the block size is fixed when PostgreSQL is built,
// and no distribution changes it.
const (
	walBlock        = 8192
	walShortHeader  = 24
	walLongHeader   = 40 // of a segment's first page
	walLookback     = 256 << 10
	walMaximumAlign = 8
)

// EndOfWAL returns the end of the valid WAL of the timeline on the local disk. From is a position at or before it
// (the last sampled one); unknown: the last checkpoint.
func (i *Instance) EndOfWAL(ctx context.Context, tl replication.Timeline, from replication.LSN) (replication.LSN, error) {
	end, err := i.endOfWAL(ctx, tl, from)
	if err != nil {
		return 0, fmt.Errorf("find the end of WAL: %w", err)
	}
	return end, nil
}

func (i *Instance) endOfWAL(ctx context.Context, tl replication.Timeline, from replication.LSN) (replication.LSN, error) {
	c, err := i.control(ctx)
	if err != nil {
		return 0, err
	}
	first, err := firstSegment(i.cfg.DataDir, tl, c.SegmentBytes)
	if err != nil {
		return 0, err
	}
	redo := first
	if c.CheckpointTimeline == tl {
		redo = max(first, c.CheckpointRedo)
	}
	// A sampled position may lie within a record. The reader finds the next whole record by itself, so it starts a
	// little earlier; should there be none (one huge record), from the checkpoint.
	starts := []replication.LSN{redo}
	if from > redo+walLookback {
		starts = []replication.LSN{max(from-walLookback, first), redo}
	}
	var failure error
	for _, start := range starts {
		last, err := i.lastRecord(ctx, tl, start)
		if last != nil {
			end := last.end(c.SegmentBytes)
			if end < from {
				return end, fmt.Errorf("the WAL ends at %s, before %s: %w", end, from, err)
			}
			return end, nil
		}
		failure = err
	}
	return 0, fmt.Errorf("no valid record from %s on: %w", starts[len(starts)-1], failure)
}

// firstSegment returns where the oldest WAL file of the timeline starts.
func firstSegment(dataDir string, tl replication.Timeline, segmentBytes int64) (replication.LSN, error) {
	files, err := os.ReadDir(filepath.Join(dataDir, "pg_wal"))
	if err != nil {
		return 0, fmt.Errorf("list WAL: %w", err)
	}
	for _, f := range files { // sorted by name, hence by position within a timeline
		if t, start, ok := parseSegment(f.Name(), segmentBytes); ok && t == tl {
			return start, nil
		}
	}
	return 0, fmt.Errorf("no WAL of timeline %d in %s", tl, dataDir)
}

// record is what pg_waldump says of one.
type record struct {
	start    replication.LSN
	total    uint64 // bytes, headers of pages not counted
	toSwitch bool   // the rest of its segment is empty
}

// lastRecord returns the last valid record from start on; nil, and why, when there is none. That pg_waldump ends with an
// error is how the end of the log looks.
func (i *Instance) lastRecord(ctx context.Context, tl replication.Timeline, start replication.LSN) (*record, error) {
	var last []byte
	err := i.waldump(ctx, func(line []byte) {
		if bytes.HasPrefix(line, []byte("rmgr: ")) {
			last = append(last[:0], line...)
		}
	}, "-t", strconv.Itoa(int(tl)), "-s", start.String())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if last == nil {
		return nil, errors.Join(err, errors.New("pg_waldump printed no record"))
	}
	r, perr := parseRecord(string(last))
	if perr != nil {
		return nil, perr
	}
	return &r, err
}

// waldump runs pg_waldump over the local WAL and hands on the lines of its output.
func (i *Instance) waldump(ctx context.Context, line func([]byte), args ...string) error {
	bins, err := i.binaries(ctx)
	if err != nil {
		return err
	}
	splitter := &tail{lines: func(s string) { line([]byte(s)) }}
	_, err = i.run(ctx, job{
		path: bins.path("pg_waldump"), args: append([]string{"-p", filepath.Join(i.cfg.DataDir, "pg_wal")}, args...),
		stdout: splitter,
	})
	splitter.flush()
	return err
}

// parseRecord reads "rmgr: XLOG  len (rec/tot):    114/   114, tx:  0, lsn: 0/01000028, prev 0/00000000, desc: ...",
// which is the same in versions 13 to 18.
func parseRecord(line string) (record, error) {
	var r record
	_, rest, ok := strings.Cut(line, "len (rec/tot):")
	lengths, _, ok2 := strings.Cut(rest, ",")
	_, total, ok3 := strings.Cut(lengths, "/")
	_, after, ok4 := strings.Cut(line, " lsn: ")
	lsn, _, ok5 := strings.Cut(after, ",")
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 {
		return r, fmt.Errorf("read the output of pg_waldump: %q", line)
	}
	var err, err2 error
	r.total, err = strconv.ParseUint(strings.TrimSpace(total), 10, 32)
	r.start, err2 = replication.ParseLSN(lsn)
	if err := errors.Join(err, err2); err != nil {
		return r, fmt.Errorf("read the output of pg_waldump: %q: %w", line, err)
	}
	_, desc, _ := strings.Cut(line, " desc: ")
	r.toSwitch = strings.HasPrefix(line, "rmgr: XLOG ") && strings.HasPrefix(desc, "SWITCH")
	return r, nil
}

// end returns where the next record would start, but for a page header: the position that PostgreSQL calls flushed.
func (r record) end(segmentBytes int64) replication.LSN {
	segment := uint64(segmentBytes)
	if r.toSwitch {
		return replication.LSN((uint64(r.start)/segment + 1) * segment)
	}
	position, left := uint64(r.start), r.total
	for {
		room := walBlock - position%walBlock
		if left <= room {
			position += left
			break
		}
		left -= room
		position += room
		if position%segment == 0 {
			position += walLongHeader
		} else {
			position += walShortHeader
		}
	}
	return replication.LSN((position + walMaximumAlign - 1) / walMaximumAlign * walMaximumAlign)
}
