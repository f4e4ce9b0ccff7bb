package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// Clone copies the source into an absent or empty data directory, holding the WAL with this node's slot there. What an
// interrupted one leaves lies beside the data directory and is removed by the next.
func (i *Instance) Clone(ctx context.Context, o CloneOptions) error {
	defer i.exclusive()()
	if err := i.clone(ctx, o); err != nil {
		return fmt.Errorf("clone from %s: %w", o.Source.Node, err)
	}
	return nil
}

func (i *Instance) clone(ctx context.Context, o CloneOptions) error {
	owner, bins, side, err := i.prepareSide(ctx)
	if err != nil {
		return err
	}
	if err := writeFile(owner, i.statePath("passfile"), []byte(i.passfile())); err != nil {
		return err
	}
	reserved, err := i.reserve(ctx, o.Source)
	if err != nil {
		return err
	}
	args := []string{
		"-D", side, "-d", i.toolConninfo(o.Source, RoleReplicator), "-X", "stream", "-c", "fast", "--progress", "--no-password",
	}
	if reserved {
		args = append(args, "-S", SlotName(i.cfg.Node))
	}
	if o.MaxRate > 0 {
		args = append(args, "--max-rate", strconv.FormatInt(min(max(o.MaxRate>>10, 32), 1<<20), 10)) // kB/s, its limits
	}
	_, err = i.run(ctx, job{
		path: bins.path("pg_basebackup"), args: args, env: []string{"PGPASSFILE=" + i.statePath("passfile")},
		lines: func(line string) {
			if done, total, ok := parseProgress(line); ok && o.Progress != nil {
				o.Progress(done, total)
			}
		},
	})
	if err != nil {
		return err
	}
	if err := removeSlotFiles(side); err != nil {
		return err
	}
	if err := writeFile(owner, filepath.Join(side, "standby.signal"), nil); err != nil {
		return err
	}
	if err := i.installSide(side); err != nil {
		return err
	}
	return i.unmark()
}

// reserve makes this node's slot on the source, before the backup: a long one would lose its WAL otherwise. A standby
// keeps no slots of ours; there pg_basebackup holds the WAL with a temporary one of its own, and the primary, which made
// the slot when this node became a member, holds what follows.
func (i *Instance) reserve(ctx context.Context, source Upstream) (reserved bool, err error) {
	conn, err := dial(ctx, target{
		host: source.Host, port: source.Port, role: RoleReplicator, password: i.cfg.Secret.Password(RoleReplicator),
		settings: map[string]string{"replication": "database", "application_name": string(i.cfg.Node) + "-clone"},
	})
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(ctx) }() // the answers are here; how the connection ends does not matter
	standby, err := simple(ctx, conn, "SELECT pg_is_in_recovery()::text")
	if err != nil || standby[0] == "true" {
		return false, err
	}
	err = execute(ctx, conn, `CREATE_REPLICATION_SLOT "`+SlotName(i.cfg.Node)+`" PHYSICAL RESERVE_WAL`)
	if err != nil && !hasCode(err, "42710") {
		return false, fmt.Errorf("make slot on the source: %w", err)
	}
	return true, nil
}

// toolConninfo is what pg_basebackup and pg_rewind connect with. The password is in the passfile.
func (i *Instance) toolConninfo(source Upstream, role string) string {
	settings := [][2]string{
		{"host", source.Host}, {"port", strconv.Itoa(source.Port)}, {"user", role}, {"dbname", Superuser},
		{"connect_timeout", "5"}, {"keepalives_idle", "3"}, {"keepalives_interval", "1"}, {"keepalives_count", "5"},
		{"tcp_user_timeout", "15000"}, {"sslmode", "prefer"}, {"options", "-c statement_timeout=0"},
	}
	words := make([]string, 0, len(settings))
	for _, s := range settings {
		words = append(words, s[0]+"="+quoteConninfo(s[1]))
	}
	return strings.Join(words, " ")
}

// parseProgress reads "  12345/67890 kB (18%), 0/1 tablespace (...)".
func parseProgress(line string) (done, total uint64, ok bool) {
	counts, _, found := strings.Cut(strings.TrimSpace(line), " kB")
	if !found {
		return 0, 0, false
	}
	first, second, found := strings.Cut(counts, "/")
	if !found {
		return 0, 0, false
	}
	done, err := strconv.ParseUint(strings.TrimSpace(first), 10, 54)
	if err != nil {
		return 0, 0, false
	}
	total, err = strconv.ParseUint(strings.TrimSpace(second), 10, 54)
	if err != nil {
		return 0, 0, false
	}
	return done << 10, total << 10, true
}

// Reclone renames the data directory to <data>.diverged.<timeline>.<time> and clones anew. It may be called again after
// a failure.
func (i *Instance) Reclone(ctx context.Context, o CloneOptions) error {
	defer i.exclusive()()
	if _, err := i.setAside(ctx); err != nil {
		return fmt.Errorf("reclone: %w", err)
	}
	if err := i.clone(ctx, o); err != nil {
		return fmt.Errorf("reclone from %s: %w", o.Source.Node, err)
	}
	return nil
}

// SetAside renames a stopped data directory and returns its new path; empty when there was none.
func (i *Instance) SetAside(ctx context.Context) (string, error) {
	defer i.exclusive()()
	path, err := i.setAside(ctx)
	if err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	return path, nil
}

func (i *Instance) setAside(ctx context.Context) (string, error) {
	presence, err := presenceOf(i.cfg.DataDir)
	if err != nil {
		return "", err
	}
	switch presence {
	case Absent, Empty:
		return "", nil
	case Foreign:
		return "", fmt.Errorf("%s: %w", i.cfg.DataDir, ErrNotPresent)
	}
	if err := i.mustBeDead(); err != nil {
		return "", err
	}
	tl := 0
	if c, err := i.control(ctx); err == nil { // a broken rewind may have broken it
		tl = int(max(c.CheckpointTimeline, c.MinRecoveryTL))
	}
	path := fmt.Sprintf("%s.diverged.%d.%s", i.cfg.DataDir, tl, time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Rename(i.cfg.DataDir, path); err != nil {
		return "", fmt.Errorf("rename the data directory (a mount point? use a directory below it): %w", err)
	}
	i.log.Warn("renamed the data directory", "to", path)
	if err := i.unmark(); err != nil {
		return path, err
	}
	return path, syncDir(filepath.Dir(path))
}

// mustBeDead refuses while a process of the instance lives.
func (i *Instance) mustBeDead() error {
	left, err := guard.Find(i.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("look for processes of the instance: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("process %d: %w", left[0].PID, ErrRunning)
	}
	return nil
}

// DropDiverged deletes all renamed data directories but the newest: call it once the new clone streams.
func (i *Instance) DropDiverged(ctx context.Context) error {
	defer i.exclusive()()
	old, err := filepath.Glob(i.cfg.DataDir + ".diverged.*.*")
	if err != nil {
		return fmt.Errorf("list diverged data directories: %w", err)
	}
	stamp := func(path string) string { return path[len(path)-len("20060102T150405.000"):] }
	slices.SortFunc(old, func(a, b string) int { return strings.Compare(stamp(a), stamp(b)) })
	for n := 0; n < len(old)-1; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := os.RemoveAll(old[n]); err != nil {
			return fmt.Errorf("delete diverged data directory: %w", err)
		}
	}
	return nil
}

// markerPath is the file that exists while pg_rewind changes the data directory.
func (i *Instance) markerPath() string { return i.statePath("rewind_in_progress") }

func (i *Instance) unmark() error {
	if err := os.Remove(i.markerPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove marker: %w", err)
	}
	return nil
}

// UpstreamFacts asks another server about itself, over a replication connection, and over an ordinary one for the rest.
func (i *Instance) UpstreamFacts(ctx context.Context, host string, port int) (UpstreamFacts, error) {
	f, err := i.identify(ctx, host, port)
	if err != nil {
		return f, fmt.Errorf("ask %s:%d: %w", host, port, err)
	}
	i.askWAL(ctx, host, port, &f)
	return f, nil
}

// askWAL asks for what a replication connection cannot tell; it stays unknown where that fails.
func (i *Instance) askWAL(ctx context.Context, host string, port int, f *UpstreamFacts) {
	conn, err := dial(ctx, target{
		host: host, port: port, role: RoleMonitor, password: i.cfg.Secret.Password(RoleMonitor),
		settings: map[string]string{"application_name": string(i.cfg.Node) + "-inspect"},
	})
	if err != nil {
		i.log.Debug("no ordinary connection to the upstream", "host", host, "port", port, "error", err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	got, err := rows(ctx, conn, `SELECT (SELECT timeline_id FROM pg_control_checkpoint()),
		current_setting('wal_segment_size'), (SELECT min(substr(name, 9)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'),
		(SELECT bytes_per_wal_segment FROM pg_control_init())`)
	if err != nil || len(got) != 1 {
		i.log.Debug("the upstream does not tell about its WAL", "host", host, "port", port, "error", err)
		return
	}
	row := got[0]
	f.Checkpointed = row[0] == strconv.Itoa(int(f.Timeline))
	if size, err := strconv.ParseInt(row[3], 10, 64); err == nil {
		if _, start, ok := parseSegment("00000001"+row[2], size); ok {
			f.WALFrom = start
		}
	}
}

// identify asks over a replication connection.
func (i *Instance) identify(ctx context.Context, host string, port int) (UpstreamFacts, error) {
	var f UpstreamFacts
	conn, err := dial(ctx, target{
		host: host, port: port, role: RoleReplicator, password: i.cfg.Secret.Password(RoleReplicator),
		settings: map[string]string{"replication": "true", "application_name": string(i.cfg.Node) + "-inspect"},
	})
	if err != nil {
		return f, err
	}
	defer func() { _ = conn.Close(ctx) }()
	row, err := simple(ctx, conn, "IDENTIFY_SYSTEM")
	if err != nil || len(row) < 3 {
		return f, fmt.Errorf("identify system: %w", errors.Join(err, errShort(row, 3)))
	}
	f.SystemID = row[0]
	if f.Timeline, err = parseTimeline(row[1]); err != nil {
		return f, err
	}
	if err := f.Flush.UnmarshalText([]byte(row[2])); err != nil {
		return f, err
	}
	if f.Timeline > 1 {
		row, err = simple(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", f.Timeline))
		if err != nil || len(row) < 2 {
			return f, fmt.Errorf("read history: %w", errors.Join(err, errShort(row, 2)))
		}
		if f.History, err = parseHistory(row[1]); err != nil {
			return f, err
		}
	}
	return f, askSettings(ctx, conn, &f)
}

// askSettings reads settings over a replication connection.
func askSettings(ctx context.Context, conn *pgconn.PgConn, f *UpstreamFacts) error {
	for name, value := range map[string]*int{
		"max_connections": &f.Minimums.MaxConnections, "max_wal_senders": &f.Minimums.MaxWALSenders,
		"max_worker_processes": &f.Minimums.MaxWorkerProcesses, "max_prepared_transactions": &f.Minimums.MaxPreparedTransactions,
		"max_locks_per_transaction": &f.Minimums.MaxLocksPerTransaction,
	} {
		row, err := simple(ctx, conn, "SHOW "+name)
		if err == nil && len(row) == 1 {
			*value, err = strconv.Atoi(row[0])
		}
		if err != nil {
			return fmt.Errorf("ask for %s: %w", name, err)
		}
	}
	// Reported at login from version 14 on. Version 13 has no such setting: a session in recovery is read only.
	standby := conn.ParameterStatus("in_hot_standby")
	if standby == "" {
		row, err := simple(ctx, conn, "SHOW transaction_read_only")
		if err != nil || len(row) != 1 {
			return fmt.Errorf("ask whether it is a standby: %w", errors.Join(err, errShort(row, 1)))
		}
		standby = row[0]
	}
	f.InRecovery = standby == "on"
	return nil
}
