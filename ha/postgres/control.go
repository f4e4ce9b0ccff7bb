package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication"
)

// Inspect reads the data directory, running or not.
func (i *Instance) Inspect(ctx context.Context) (DataDir, error) {
	var d DataDir
	var err error
	if d.Presence, err = presenceOf(i.cfg.DataDir); err != nil {
		return d, err
	}
	d.FreeBytes = freeBytes(i.cfg.DataDir)
	d.RewindInterrupted = exists(i.markerPath())
	if d.Presence != Present {
		return d, nil
	}
	if d.Control, err = i.control(ctx); err != nil {
		return d, err
	}
	if d.Timeline, d.History, err = newestTimeline(i.cfg.DataDir, d.Control); err != nil {
		return d, err
	}
	d.StandbySignal = exists(filepath.Join(i.cfg.DataDir, "standby.signal"))
	d.BackupLabel = exists(filepath.Join(i.cfg.DataDir, "backup_label"))
	processes, err := guard.Find(i.cfg.DataDir)
	if err != nil {
		return d, fmt.Errorf("look for processes of the instance: %w", err)
	}
	d.Leftovers = len(processes)
	if pid := postmasterPID(i.cfg.DataDir); pid != 0 {
		for _, p := range processes {
			if p.PID == pid {
				d.PostmasterPID = pid
			}
		}
	}
	return d, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func presenceOf(dataDir string) (Presence, error) {
	entries, err := os.ReadDir(dataDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Absent, nil
	case err != nil:
		return Foreign, fmt.Errorf("look at the data directory: %w", err)
	}
	kind := Empty
	for _, e := range entries {
		switch e.Name() {
		case "lost+found":
		case "PG_VERSION":
			return Present, nil
		default:
			kind = Foreign
		}
	}
	return kind, nil
}

// freeBytes asks the file system of the nearest directory that exists; 0 when it does not say.
func freeBytes(path string) uint64 {
	for ; path != "/" && path != "."; path = filepath.Dir(path) {
		var stat unix.Statfs_t
		if err := unix.Statfs(path, &stat); err == nil {
			return stat.Bavail * uint64(stat.Bsize)
		}
	}
	return 0
}

// postmasterPID reads the first line of postmaster.pid; 0 when there is none.
func postmasterPID(dataDir string) int {
	lines := pidFile(dataDir)
	if len(lines) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return 0
	}
	return pid
}

// pidFile returns the lines of postmaster.pid (src/include/utils/pidfile.h).
func pidFile(dataDir string) []string {
	content, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(content), "\n")
}

// control runs pg_controldata.
func (i *Instance) control(ctx context.Context) (Control, error) {
	bins, err := i.binaries(ctx)
	if err != nil {
		return Control{}, err
	}
	output, err := i.run(ctx, job{path: bins.path("pg_controldata"), args: []string{"-D", i.cfg.DataDir}})
	if err != nil {
		return Control{}, err
	}
	c, err := parseControl(output)
	if err != nil {
		return c, err
	}
	c.Version = bins.major
	return c, nil
}

// parseControl reads the report in the C locale; its lines are "name: value".
func parseControl(report string) (Control, error) {
	values := make(map[string]string)
	scanner := bufio.NewScanner(strings.NewReader(report))
	for scanner.Scan() {
		if name, value, ok := strings.Cut(scanner.Text(), ":"); ok {
			values[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	var c Control
	var errs []error
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(values[name], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return n
	}
	lsn := func(name string) replication.LSN {
		l, err := replication.ParseLSN(values[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return l
	}
	c.SystemID = values["Database system identifier"]
	c.State = values["Database cluster state"]
	c.Checkpoint = lsn("Latest checkpoint location")
	c.CheckpointRedo = lsn("Latest checkpoint's REDO location")
	c.CheckpointTimeline = replication.Timeline(number("Latest checkpoint's TimeLineID"))
	c.PreviousTimeline = replication.Timeline(number("Latest checkpoint's PrevTimeLineID"))
	if epoch, xid, ok := strings.Cut(values["Latest checkpoint's NextXID"], ":"); ok {
		high, herr := strconv.ParseUint(epoch, 10, 32)
		low, lerr := strconv.ParseUint(xid, 10, 32)
		errs = append(errs, herr, lerr)
		c.NextXID = high<<32 | low
	}
	c.MinRecoveryEnd = lsn("Minimum recovery ending location")
	c.MinRecoveryTL = replication.Timeline(number("Min recovery ending loc's timeline"))
	c.WALLogHints = values["wal_log_hints setting"] == "on"
	c.Checksums = number("Data page checksum version") != 0
	c.SegmentBytes = int64(number("Bytes per WAL segment"))
	c.Minimums = Minimums{
		MaxConnections:          int(number("max_connections setting")),
		MaxWALSenders:           int(number("max_wal_senders setting")),
		MaxWorkerProcesses:      int(number("max_worker_processes setting")),
		MaxPreparedTransactions: int(number("max_prepared_xacts setting")),
		MaxLocksPerTransaction:  int(number("max_locks_per_xact setting")),
	}
	if c.SystemID == "" || c.State == "" {
		errs = append(errs, errors.New("no system identifier or state"))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("read the report of pg_controldata: %w", err)
	}
	return c, nil
}

// newestTimeline finds the timeline of the newest WAL in the directory: the control file's, or one that descends from it
// by a local history file and has WAL here (a standby that crashed after it received, before pg_control was written).
func newestTimeline(dataDir string, c Control) (replication.Timeline, replication.History, error) {
	newest := max(c.CheckpointTimeline, c.MinRecoveryTL)
	files, err := os.ReadDir(filepath.Join(dataDir, "pg_wal"))
	if err != nil {
		return 0, nil, fmt.Errorf("list WAL: %w", err)
	}
	withWAL := make(map[replication.Timeline]bool)
	for _, f := range files {
		if tl, _, ok := parseSegment(f.Name(), c.SegmentBytes); ok {
			withWAL[tl] = true
		}
	}
	base := newest
	for tl := range withWAL {
		if tl <= newest {
			continue
		}
		history, err := readHistory(dataDir, tl)
		if err != nil {
			continue
		}
		if _, ok := history.EndOf(base); ok {
			newest = tl
		}
	}
	history, err := readHistory(dataDir, newest)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return newest, nil, err
	}
	return newest, history, nil
}

// readHistory reads the local history file of a timeline; that of timeline 1 is empty.
func readHistory(dataDir string, tl replication.Timeline) (replication.History, error) {
	if tl <= 1 {
		return nil, nil
	}
	content, err := os.ReadFile(filepath.Join(dataDir, "pg_wal", fmt.Sprintf("%08X.history", uint32(tl))))
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", tl, err)
	}
	history, err := replication.ParseHistory(content)
	if err != nil {
		return nil, fmt.Errorf("read history of timeline %d: %w", tl, err)
	}
	return history, nil
}

// parseSegment reads a WAL file name: timeline and number of the segment.
func parseSegment(name string, segmentBytes int64) (tl replication.Timeline, start replication.LSN, ok bool) {
	if len(name) != 24 || segmentBytes <= 0 {
		return 0, 0, false
	}
	var parts [3]uint64
	for n := range parts {
		v, err := strconv.ParseUint(name[n*8:n*8+8], 16, 32)
		if err != nil {
			return 0, 0, false
		}
		parts[n] = v
	}
	if parts[2] >= 1<<32/uint64(segmentBytes) {
		return 0, 0, false // there is no such segment
	}
	return replication.Timeline(parts[0]), replication.LSN(parts[1]<<32 + parts[2]*uint64(segmentBytes)), true
}
