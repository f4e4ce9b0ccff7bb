package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
)

// EnsureSlots makes a physical slot for each of want, which holds WAL from now on, and drops the other slots that
// EnsureSlots made. One that is in use is left for the next call.
func (i *Instance) EnsureSlots(ctx context.Context, want []replication.NodeID) error {
	defer i.exclusive()()
	names := make([]string, 0, len(want))
	for _, node := range want {
		names = append(names, SlotName(node))
	}
	if err := i.with(ctx, func(conn *pgconn.PgConn) error { return ensureSlots(ctx, conn, names) }); err != nil {
		return fmt.Errorf("ensure slots: %w", err)
	}
	return nil
}

// DropSlots drops all slots that EnsureSlots made: a demoted node's would pin WAL for ever.
func (i *Instance) DropSlots(ctx context.Context) error { return i.EnsureSlots(ctx, nil) }

func ensureSlots(ctx context.Context, conn *pgconn.PgConn, names []string) error {
	found, err := rows(ctx, conn, "SELECT slot_name, active, coalesce(wal_status, '') FROM pg_replication_slots "+
		"WHERE slot_type = 'physical' AND NOT temporary")
	if err != nil {
		return err
	}
	have := make(map[string]bool)
	var errs []error
	for _, row := range found {
		name, active, lost := row[0], row[1] == "t", row[2] == "lost"
		ours, wanted := strings.HasPrefix(name, slotPrefix), slices.Contains(names, name)
		have[name] = true
		// A slot that has lost its WAL is of no use: it is made again, for whoever clones next.
		if active || !ours || wanted && !lost {
			continue
		}
		if _, err := rows(ctx, conn, "SELECT pg_drop_replication_slot($1)", name); err != nil {
			errs = append(errs, fmt.Errorf("drop %s: %w", name, err))
			continue
		}
		have[name] = false
	}
	for _, name := range names {
		if have[name] {
			continue
		}
		_, err := rows(ctx, conn, "SELECT pg_create_physical_replication_slot($1, true)", name)
		if err != nil && !hasCode(err, "42710") { // it exists: somebody cloned meanwhile
			errs = append(errs, fmt.Errorf("make %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// hasCode reports whether the server answered with the SQLSTATE.
func hasCode(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}

// removeSlotFiles drops our slots from a stopped data directory.
func removeSlotFiles(dataDir string) error {
	dirs, err := filepath.Glob(filepath.Join(dataDir, "pg_replslot", slotPrefix+"*"))
	if err != nil {
		return fmt.Errorf("list slots: %w", err)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("drop slot: %w", err)
		}
	}
	return nil
}
