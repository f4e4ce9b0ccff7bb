package postgres

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// as runs a statement as one of walgate's roles.
func as(t *testing.T, i *Instance, role, sql string, args ...string) (string, error) {
	t.Helper()
	ctx := limit(t, 10*time.Second)
	conn, err := dial(ctx, target{host: "127.0.0.1", port: i.cfg.Port, role: role, password: i.cfg.Secret.Password(role)})
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	return one(ctx, conn, sql, args...)
}

func TestRoles(t *testing.T) {
	i := newPrimary(t, "n1")
	i.sql(t, "CREATE ROLE app LOGIN PASSWORD 'x'; CREATE ROLE nologin PASSWORD 'x'; CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'")
	for role, want := range map[string]bool{
		"postgres": true, "app": true, "nologin": false, "late": false, "nobody": false, RoleWalgate: false, RoleReplicator: false,
	} {
		got, err := as(t, i, RoleMonitor, "SELECT walgate.verifier($1)", role)
		if err != nil || strings.HasPrefix(got, "SCRAM-SHA-256$") != want {
			t.Errorf("verifier of %s: %q, %v", role, got, err)
		}
	}
	if _, err := as(t, i, RoleRewind, "SELECT walgate.verifier('app')"); !hasCode(err, "42501") {
		t.Errorf("any role may read verifiers: %v", err)
	}
	if _, err := as(t, i, RoleRewind, "SELECT length(pg_read_binary_file('global/pg_control'))"); err != nil {
		t.Errorf("rewind: %v", err)
	}
	if _, err := as(t, i, RoleReplicator, "SELECT rolpassword FROM pg_authid LIMIT 1"); !hasCode(err, "42501") {
		t.Errorf("the replicator reads passwords: %v", err)
	}
	// A changed password is mended, and a second run writes nothing.
	i.sql(t, "ALTER ROLE walgate_monitor PASSWORD 'other'")
	ctx := limit(t, time.Minute)
	must(t, i.EnsureRoles(ctx))
	if _, err := as(t, i, RoleMonitor, "SELECT 1"); err != nil {
		t.Errorf("after mending: %v", err)
	}
	before := i.sql(t, "SELECT xmin::text || ' ' || rolpassword FROM pg_authid WHERE rolname = 'walgate_monitor'")
	must(t, i.EnsureRoles(ctx))
	if after := i.sql(t, "SELECT xmin::text || ' ' || rolpassword FROM pg_authid WHERE rolname = 'walgate_monitor'"); after != before {
		t.Error("the second run wrote")
	}
	command, err := os.ReadFile("/proc/" + i.sql(t, "SELECT pg_backend_pid()") + "/cmdline")
	if err == nil && strings.Contains(string(command), i.cfg.Secret.Password(RoleReplicator)) {
		t.Error("a password stands in a command line")
	}
	info, err := os.Stat(i.statePath("passfile"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("passfile has mode %s", info.Mode())
	}
}

// A receiver that does not answer holds up a fast shutdown until its sender is ended.
func TestStopFastEndsHangingSender(t *testing.T) {
	i := newPrimary(t, "n1")
	ctx := limit(t, time.Minute)
	f, err := i.Status(ctx)
	must(t, err)
	conn, err := dial(ctx, target{
		host: "127.0.0.1", port: i.cfg.Port, role: RoleReplicator, password: i.cfg.Secret.Password(RoleReplicator),
		settings: map[string]string{"replication": "true"},
	})
	must(t, err)
	defer func() { _ = conn.Conn().Close() }()
	conn.Frontend().Send(&pgproto3.Query{String: "START_REPLICATION PHYSICAL " + f.Flush.String() + " TIMELINE 2"})
	must(t, conn.Frontend().Flush())
	eventually(t, "the sender streams", func() bool {
		f, err := i.Status(context.Background())
		return err == nil && len(f.Replicas) == 1 && f.Replicas[0].State == "streaming"
	})
	stopped, err := i.StopFast(ctx)
	must(t, err)
	if !stopped.Clean || stopped.End <= stopped.Control.Checkpoint {
		t.Fatalf("stopped: %+v", stopped)
	}
	again, err := i.StopFast(ctx)
	must(t, err)
	if again.End != stopped.End {
		t.Fatalf("stopped again: %+v", again)
	}
}

func TestLogRotates(t *testing.T) {
	cfg := configAt(t.TempDir(), "n1")
	cfg.Port = 5432
	i := &Instance{cfg: cfg}
	must(t, os.MkdirAll(cfg.StateDir, 0o700))
	must(t, os.WriteFile(cfg.LogFile, make([]byte, cfg.LogBytes), 0o600))
	i.Maintain()
	now, err := os.Stat(cfg.LogFile)
	must(t, err)
	old, err := os.Stat(cfg.LogFile + ".1")
	must(t, err)
	if now.Size() != 0 || old.Size() != cfg.LogBytes {
		t.Errorf("log has %d bytes, old one %d", now.Size(), old.Size())
	}
}
