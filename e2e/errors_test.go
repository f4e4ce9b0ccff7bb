package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// dialCancelling connects so that the end of a context sends a cancel request and keeps the connection.
func dialCancelling(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("read DSN: %v", err)
	}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: sqlLimit}
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

func testCancel(t *testing.T, d *Demo) {
	p := d.places(t)
	for _, test := range []struct {
		name, sql string
		primary   bool
	}{
		{"on a standby", "select pg_sleep(600), 'sleeper' from items where id = 1", false},
		{"on the primary", "select pg_sleep(600), 'sleeper' from items where id = 1 for share", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := dialCancelling(t, d.endpoint(t))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { // ends with the query: cancelled below, or by the end of the test
				_, err := conn.Exec(ctx, test.sql, pgx.QueryExecModeSimpleProtocol)
				ended <- err
			}()
			await(t, sqlLimit, "the query to run", func(ctx context.Context) error {
				ports, err := d.sleepers(ctx, t)
				switch {
				case err != nil:
					return err
				case len(ports) != 1:
					return fmt.Errorf("%d sleepers", len(ports))
				case p.onPrimary(ports[0]) != test.primary:
					t.Errorf("it runs on port %d; primary is %v of %v", ports[0], p.primary, p.all)
				}
				return nil
			})
			cancel()
			select {
			case err := <-ended:
				if sqlstate(err) != "57014" {
					t.Errorf("a cancelled query gives %v, want SQLSTATE 57014", err)
				}
			case <-time.After(sqlLimit):
				t.Fatal("the cancelled query goes on")
			}
			await(t, sqlLimit, "the sleeper's end", func(ctx context.Context) error {
				if ports, err := d.sleepers(ctx, t); err != nil || len(ports) > 0 {
					return fmt.Errorf("sleepers on %v, %w", ports, err)
				}
				return nil
			})
			if n := ask[int](t, conn, "select 1"); n != 1 {
				t.Errorf("after a cancel select 1 gives %d", n)
			}
		})
	}
	t.Run("late cancel harms nobody", func(t *testing.T) {
		idle, busy := dial(t, d.endpoint(t)), dial(t, d.endpoint(t))
		for range 20 {
			if err := idle.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatalf("send cancel: %v", err)
			}
			do(t, busy, "select pg_sleep(0.01)")
			do(t, idle, "select 1")
		}
	})
}

// sleepers asks every PostgreSQL directly and returns the ports on which the query of testCancel runs.
func (d *Demo) sleepers(ctx context.Context, t *testing.T) ([]int, error) {
	var ports []int
	f := d.facts(t)
	for _, n := range f.Nodes {
		var count, port int
		err := askOnce(ctx, d.direct(f, n), `select count(*), inet_server_port() from pg_stat_activity
			where state = 'active' and query like 'select pg_sleep(600), ''sleeper''%'`, &count, &port)
		if err != nil {
			return nil, err
		}
		for range count {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func testErrors(t *testing.T, d *Demo) {
	conn := dial(t, d.endpoint(t))
	for _, test := range []struct{ sql, state string }{
		{"select * from no_such_table", "42P01"},
		{"select 1/0", "22012"},
		{"insert into items values (1, 'again')", "23505"},
		{"selec 1", "42601"},
		{"select no_such_column from items", "42703"},
		{"set statement_timeout = 'many'", "22023"},
		{"set walgate.consistency = 'none'", "22023"},
		{"insert into no_such_table values (1)", "42P01"},
	} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec} {
			if _, err := conn.Exec(t.Context(), test.sql, mode); sqlstate(err) != test.state {
				t.Errorf("%s (%s): %v; want SQLSTATE %s", test.sql, mode, err, test.state)
			}
		}
	}
	do(t, conn, "begin")
	if _, err := conn.Exec(t.Context(), "select * from no_such_table"); sqlstate(err) != "42P01" {
		t.Errorf("in a transaction: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "select 1"); sqlstate(err) != "25P02" {
		t.Errorf("in an aborted transaction: %v; want 25P02", err)
	}
	do(t, conn, "rollback")
	do(t, conn, "begin read only")
	if _, err := conn.Exec(t.Context(), "insert into items values (7001, 'x')"); sqlstate(err) != "25006" {
		t.Errorf("a write in a read-only transaction: %v; want 25006", err)
	}
	do(t, conn, "rollback")
	if n := ask[int](t, conn, "select 1"); n != 1 {
		t.Errorf("after the errors select 1 gives %d", n)
	}
}

func testLogins(t *testing.T, d *Demo) {
	f := d.facts(t)
	refused := func(name, dsn, state string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), dsn)
		if err == nil {
			closeConn(conn)
		}
		if sqlstate(err) != state {
			t.Errorf("%s: %v; want SQLSTATE %s", name, err, state)
		}
	}
	wrong := f
	wrong.Password = "wrong"
	refused("wrong password", dsn(wrong, f.Sidecar.Addr), "28P01")
	unknown := f
	unknown.User = "nobody_at_all"
	refused("unknown user", dsn(unknown, f.Sidecar.Addr), "28P01")
	elsewhere := f
	elsewhere.Database = "no_such_database"
	refused("unknown database", dsn(elsewhere, f.Sidecar.Addr), "3D000")
	internal := f
	internal.User = "walgate"
	refused("walgate's own role", dsn(internal, f.Sidecar.Addr), "28P01")
	for _, target := range []string{"any", "read-write", "prefer-standby"} {
		conn, err := pgx.Connect(t.Context(), dsn(f, f.Sidecar.Addr)+"&target_session_attrs="+target)
		if err != nil {
			t.Errorf("target_session_attrs=%s: %v", target, err)
			continue
		}
		closeConn(conn)
	}
	for _, n := range f.Nodes {
		var port int
		if err := askOnce(t.Context(), dsn(f, n.Proxy), "select inet_server_port() from items where id = 1", &port); err != nil {
			t.Errorf("the proxy of %s: %v", n.Name, err)
		}
	}
	// A role that is made later may log in at once, and its own password counts.
	admin := dial(t, d.endpoint(t))
	do(t, admin, "create role visitor login password 'first'")
	visitor := f
	visitor.User, visitor.Password = "visitor", "first"
	conn := dial(t, dsn(visitor, f.Sidecar.Addr))
	if who := ask[string](t, conn, "select current_user::text"); who != "visitor" {
		t.Errorf("current_user is %q", who)
	}
	if _, err := conn.Exec(t.Context(), "create role other"); sqlstate(err) != "42501" {
		t.Errorf("a visitor may create roles: %v", err)
	}
	if conn.PgConn().ParameterStatus("is_superuser") != "off" || !strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "1") {
		t.Errorf("parameters at login: is_superuser %q, server_version %q", conn.PgConn().ParameterStatus("is_superuser"),
			conn.PgConn().ParameterStatus("server_version"))
	}
}
