package postgres

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication"
)

// SyncNames words synchronous_standby_names: ANY quorum (names), sorted and quoted; empty without names.
func SyncNames(names []replication.NodeID, quorum int) string {
	if len(names) == 0 {
		return ""
	}
	quoted := make([]string, 0, len(names))
	for _, n := range slices.Sorted(slices.Values(names)) {
		quoted = append(quoted, `"`+strings.ReplaceAll(string(n), `"`, `""`)+`"`)
	}
	return fmt.Sprintf("ANY %d (%s)", quorum, strings.Join(quoted, ", "))
}

// SetSync sets synchronous_standby_names to ANY quorum (names), or clears it when there are no names, and returns when
// it has taken effect in fresh sessions, in the checkpointer (which holds the flag that commits look at) and in the
// senders (which judge whose acknowledgement counts).
func (i *Instance) SetSync(ctx context.Context, names []replication.NodeID, quorum int) error {
	defer i.exclusive()()
	if len(names) > 0 && quorum < 1 { // more than there are names is meant: commits wait (strict, and nobody is left)
		return fmt.Errorf("set synchronous standbys: quorum %d of %d", quorum, len(names))
	}
	value := SyncNames(names, quorum)
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("set synchronous standbys: %w", err)
	}
	content := "# Written by walgate.\nsynchronous_standby_names = " + quoteConf(value) + "\n"
	before, err := os.ReadFile(i.statePath(syncConf))
	if err != nil || string(before) != content {
		if err := writeFile(owner, i.statePath(syncConf), []byte(content)); err != nil {
			return fmt.Errorf("set synchronous standbys: %w", err)
		}
	}
	if err := i.reload(ctx); err != nil {
		return fmt.Errorf("set synchronous standbys: %w", err)
	}
	if err := i.inForce(ctx, "synchronous_standby_names", value); err != nil {
		return fmt.Errorf("set synchronous standbys: %w", err)
	}
	if err := i.with(ctx, func(conn *pgconn.PgConn) error { return waitReloaded(ctx, conn, names) }); err != nil {
		return fmt.Errorf("set synchronous standbys: %w", err)
	}
	return nil
}

// waitReloaded waits until the checkpointer and every sender that streams have read the files again. They were sent
// the signal before any session could see the new value, so what is left to see is that each has taken it (it is not
// pending) and has come back to sleep in its main loop, which it does not before it has read.
func waitReloaded(ctx context.Context, conn *pgconn.PgConn, names []replication.NodeID) error {
	for {
		waiting, err := rows(ctx, conn, `SELECT a.pid, a.backend_type, coalesce(r.application_name, ''), coalesce(r.sync_priority, 0), pg_is_in_recovery()::text
			FROM pg_stat_activity a LEFT JOIN pg_stat_replication r USING (pid)
			WHERE a.backend_type = 'checkpointer' OR r.state IN ('streaming', 'catchup')`)
		if err != nil {
			return err
		}
		pids := make(map[string]bool)
		done := true
		for _, row := range waiting {
			pids[row[0]] = true
			// A sender of a standby has priority 0 whatever the names say (SyncRepGetStandbyPriority).
			if row[1] != "checkpointer" && row[4] != "true" && slices.Contains(names, replication.NodeID(row[2])) != (row[3] != "0") {
				done = false
			}
			if !settled(row[0]) {
				done = false
			}
		}
		if done {
			// Asked after settled looked: a process that slept and says that it sleeps in its main loop has been round.
			if done, err = inMainLoop(ctx, conn, pids); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("checkpointer and senders have not read the settings: %w", err)
		}
	}
}

// inMainLoop reports whether all of the processes that still live wait where their main loops wait.
func inMainLoop(ctx context.Context, conn *pgconn.PgConn, pids map[string]bool) (bool, error) {
	list := "{" + strings.Join(slices.Collect(maps.Keys(pids)), ",") + "}"
	events, err := rows(ctx, conn, "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = ANY($1::int[])", list)
	if err != nil {
		return false, err
	}
	for _, row := range events {
		if row[0] != "CheckpointerMain" && row[0] != "CheckpointWriteDelay" && !strings.HasPrefix(row[0], "WalSender") {
			return false, nil
		}
	}
	return true, nil
}

// settled reports whether the process sleeps with no SIGHUP pending, or is gone.
func settled(pid string) bool {
	number, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	content, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil || mask&1 != 0 { // SIGHUP is signal 1
			return false
		}
	}
	p, err := guard.ReadProcess(number)
	return err != nil || p.State == 'S'
}

// SetParameters replaces the user's parameters and reloads; it returns those that need a restart.
func (i *Instance) SetParameters(ctx context.Context, parameters map[string]string) (restart []string, err error) {
	defer i.exclusive()()
	if err := checkParameters(parameters); err != nil {
		return nil, fmt.Errorf("set parameters: %w", err)
	}
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("set parameters: %w", err)
	}
	c, err := i.control(ctx)
	if err != nil {
		return nil, fmt.Errorf("set parameters: %w", err)
	}
	err = i.with(ctx, func(conn *pgconn.PgConn) error {
		// One unknown name would make PostgreSQL ignore all its files, whom to follow among them.
		if err := checkNames(ctx, conn, parameters); err != nil {
			return err
		}
		i.mu.Lock()
		i.parameters = maps.Clone(parameters)
		i.mu.Unlock()
		if err := i.writeParameters(owner, parameters); err != nil {
			return err
		}
		if err := i.reload(ctx); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set parameters: %w", err)
	}
	err = i.with(ctx, func(conn *pgconn.PgConn) error {
		restart, err = i.pending(ctx, conn, minimums(parameters, c.Minimums, i.cfg.Members))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("set parameters: %w", err)
	}
	return restart, nil
}

// checkNames refuses parameters that this server does not know. Names with a dot belong to extensions.
func checkNames(ctx context.Context, conn *pgconn.PgConn, parameters map[string]string) error {
	known, err := rows(ctx, conn, "SELECT name FROM pg_settings")
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if strings.Contains(name, ".") {
			continue
		}
		if !slices.ContainsFunc(known, func(row []string) bool { return strings.EqualFold(row[0], name) }) {
			return fmt.Errorf("%s is unknown to this PostgreSQL: %w", name, ErrParameter)
		}
	}
	return nil
}

// pending lists the settings that differ from what a restart would bring.
func (i *Instance) pending(ctx context.Context, conn *pgconn.PgConn, next Minimums) ([]string, error) {
	flagged, err := rows(ctx, conn, "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, row := range flagged {
		names = append(names, row[0])
	}
	for name, value := range map[string]int{
		"max_connections": next.MaxConnections, "max_wal_senders": next.MaxWALSenders,
		"max_worker_processes": next.MaxWorkerProcesses, "max_prepared_transactions": next.MaxPreparedTransactions,
		"max_locks_per_transaction": next.MaxLocksPerTransaction,
	} {
		now, err := one(ctx, conn, "SELECT current_setting($1)", name)
		if err != nil {
			return nil, err
		}
		if now != strconv.Itoa(value) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
