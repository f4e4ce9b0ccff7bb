package postgres

import (
	"fmt"
	"strings"
	"testing"
)

// report is what pg_controldata says of c.
func report(c Control) string {
	flag := map[bool]string{true: "on", false: "off"}
	checksums := map[bool]int{true: 1}
	var b strings.Builder
	for _, l := range []struct {
		name  string
		value any
	}{
		{"Database system identifier", c.SystemID}, {"Database cluster state", c.State},
		{"Latest checkpoint location", c.Checkpoint}, {"Latest checkpoint's REDO location", c.CheckpointRedo},
		{"Latest checkpoint's TimeLineID", uint64(c.CheckpointTimeline)}, {"Latest checkpoint's PrevTimeLineID", uint64(c.PreviousTimeline)},
		{"Latest checkpoint's NextXID", fmt.Sprintf("%d:%d", c.NextXID>>32, uint32(c.NextXID))},
		{"Minimum recovery ending location", c.MinRecoveryEnd}, {"Min recovery ending loc's timeline", uint64(c.MinRecoveryTL)},
		{"wal_log_hints setting", flag[c.WALLogHints]}, {"Data page checksum version", checksums[c.Checksums]},
		{"Bytes per WAL segment", c.SegmentBytes}, {"max_connections setting", c.Minimums.MaxConnections},
		{"max_wal_senders setting", c.Minimums.MaxWALSenders}, {"max_worker_processes setting", c.Minimums.MaxWorkerProcesses},
		{"max_prepared_xacts setting", c.Minimums.MaxPreparedTransactions}, {"max_locks_per_xact setting", c.Minimums.MaxLocksPerTransaction},
	} {
		fmt.Fprintf(&b, "%-38s%v\n", l.name+":", l.value)
	}
	return b.String()
}

// FuzzControl: a report that is read holds what a report of it would hold, and no number in it is out of range.
func FuzzControl(f *testing.F) {
	good := report(Control{SystemID: "7", State: "in production", NextXID: 1<<32 | 5, SegmentBytes: 16 << 20, Checksums: true, CheckpointTimeline: 2})
	f.Add(good)
	f.Add(strings.ReplaceAll(good, "16777216", "99999999999999999999"))
	f.Add(strings.ReplaceAll(good, "1:5", "1"))
	f.Add(strings.ReplaceAll(good, "TimeLineID:                  2", "TimeLineID: 4294967298"))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseControl(text)
		if err != nil {
			return
		}
		if c.SegmentBytes <= 0 || c.CheckpointTimeline > 1<<32-1 || c.MinRecoveryTL > 1<<32-1 {
			t.Fatalf("%+v", c)
		}
		again, err := parseControl(report(c))
		if err != nil || again != c {
			t.Fatalf("%+v is read as %+v, %v", c, again, err)
		}
	})
}

// FuzzSegment: a name that is read as that of a WAL segment is the name of the segment that begins there.
func FuzzSegment(f *testing.F) {
	f.Add("000000010000000000000003", int64(16<<20))
	f.Add("0000000100000000000000FF.partial", int64(16<<20))
	f.Add("00000001+000000100000003", int64(1<<20))
	f.Add("FFFFFFFFFFFFFFFFFFFFFFFF", int64(1<<30))
	f.Fuzz(func(t *testing.T, name string, segmentBytes int64) {
		tl, start, ok := parseSegment(name, segmentBytes)
		if !ok {
			return
		}
		if segmentBytes < 1<<20 || segmentBytes > 1<<30 || segmentBytes&(segmentBytes-1) != 0 {
			return // no size that initdb accepts
		}
		perFile := uint64(1<<32) / uint64(segmentBytes)
		number := uint64(start) / uint64(segmentBytes)
		if again := fmt.Sprintf("%08X%08X%08X", uint32(tl), number/perFile, number%perFile); !strings.EqualFold(again, name) {
			t.Fatalf("%s begins at %s of timeline %d: that is %s", name, start, tl, again)
		}
	})
}
