package proxy_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/proxy"
)

// psql runs commands on the console as PostgreSQL's own client would.
func (s *setup) psql(t *testing.T, user, password string, commands ...string) (string, error) {
	t.Helper()
	args := []string{"-X", "-A", "-t", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", user, "-d", "walgate"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := s.pg.command("psql", args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// console runs commands as an administrator.
func (s *setup) console(t *testing.T, commands ...string) string {
	t.Helper()
	out, err := s.psql(t, "postgres", "super", commands...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", commands, err, out)
	}
	return out
}

// refusedBy connects to the console and expects an error with the SQLSTATE.
func (s *setup) refusedBy(t *testing.T, conn *pgx.Conn, command, sqlstate string) {
	t.Helper()
	_, err := conn.Exec(testContext(t), command)
	var told *pgconn.PgError
	if !errors.As(err, &told) || told.Code != sqlstate {
		t.Errorf("%s: %v, want SQLSTATE %s", command, err, sqlstate)
	}
}

// pgxConsole is a client of the console that speaks the extended protocol.
func (s *setup) pgxConsole(t *testing.T, user, password string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), s.url(user, password, "pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// shows are all SHOWs that have rows here, with their first columns and where PgBouncer's end.
var shows = map[string]string{
	"POOLS": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel " +
		"sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts cl_held",
	"CLIENTS": "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us " +
		"close_needed ptr link remote_pid tls application_name prepared_statements id node pinned target in_transaction turns",
	"SERVERS": "type user database replication state addr port local_addr local_port connect_time request_time wait wait_us " +
		"close_needed ptr link remote_pid tls application_name prepared_statements id node role epoch",
	"DATABASES": "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode " +
		"load_balance_hosts max_connections current_connections max_client_connections current_client_connections paused disabled",
	"USERS": "name pool_size reserve_pool_size pool_mode max_user_connections current_connections max_user_client_connections " +
		"current_client_connections",
	"STATS": "database total_server_assignment_count total_xact_count total_query_count total_received total_sent total_xact_time " +
		"total_query_time total_wait_time total_client_parse_count total_server_parse_count total_bind_count total_client_login_count " +
		"avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time " +
		"avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count " +
		"total_error_count total_retry_count total_cancel_count",
	"STATS_TOTALS": "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time " +
		"wait_time client_parse_count server_parse_count bind_count client_login_count error_count retry_count cancel_count",
	"STATS_AVERAGES": "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time " +
		"wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
	"TOTALS": "name value", "LISTS": "list items", "MEM": "name size used free memtotal", "STATE": "key value", "VIEW": "key value",
	"VERSION": "version", "NODES": "node role host port state lag_bytes lag_ms reads why received_lsn replayed_lsn timeline",
	"ROUTES": "node role why count", "NODE_POOLS": "node role epoch database user sv_active sv_idle sv_login cl_waiting close_needed",
	"PREPARED": "type id database user statements turns", "ERRORS": "node role database user sqlstate count",
}

// TestConsoleShows pins the columns, and reads every SHOW in both protocols.
func TestConsoleShows(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	ctx := testContext(t)
	if _, err := conn.Prepare(ctx, "one", "select 1"); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Exec(ctx, "select 1/0")
	admin := s.pgxConsole(t, "app", "secret")
	for name, want := range shows {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
			rows, err := admin.Query(ctx, "SHOW "+name+";", mode)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var columns []string
			for _, f := range rows.FieldDescriptions() {
				columns = append(columns, f.Name)
			}
			if got := strings.Join(columns, " "); got != want {
				t.Errorf("%s:\n got  %s\n want %s", name, got, want)
			}
			n := 0
			for ; rows.Next(); n++ {
				if _, err := rows.Values(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if rows.Err() != nil || n == 0 {
				t.Errorf("%s: %d rows, %v", name, n, rows.Err())
			}
		}
	}
	for _, name := range strings.Fields("HELP CONFIG DNS_HOSTS DNS_ZONES PEERS PEER_POOLS") {
		s.console(t, "SHOW "+name)
	}
	if out := s.console(t, "show errors"); !strings.Contains(out, "node1|primary|app|app|22012|1") {
		t.Errorf("the error was not counted:\n%s", out)
	}
	s.refusedBy(t, admin, "show nonsense", "42601")
	s.refusedBy(t, admin, "select now()", "42601")
	s.refusedBy(t, admin, "pause", "42501")
	s.refusedBy(t, admin, "kill_client 1", "42501")
}

func TestConsoleLogin(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Admin.StatsUsers = nil })
	if _, err := pgx.Connect(testContext(t), s.url("postgres", "wrong", "walgate")); err == nil {
		t.Error("a wrong password was accepted")
	}
	var told *pgconn.PgError
	if _, err := pgx.Connect(testContext(t), s.url("app", "secret", "walgate")); !errors.As(err, &told) || told.Code != "28000" {
		t.Errorf("a role that is not listed got: %v", err)
	}
}

// load begins to run pgbench; stop waits for its end and returns what it said. before is what SHOW STATS counted until then.
func (s *setup) load(t *testing.T) (before int, stop func() string) {
	t.Helper()
	s.pgbench(t, "-i", "-s", "1", "-q")
	before = s.transactions(t)
	out := make(chan string, 1)
	go func() { out <- s.pgbench(t, "-c", "4", "-T", "6", "-n") }()
	return before, func() string { return <-out }
}

// transactions is what SHOW STATS has counted in the database app.
func (s *setup) transactions(t *testing.T) int {
	t.Helper()
	for _, line := range strings.Split(s.console(t, "show stats"), "\n") {
		if cells := strings.Split(line, "|"); cells[0] == "app" {
			n, err := strconv.Atoi(cells[2])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// TestConsolePausesUnderLoad pauses, resumes and reconnects while pgbench runs, which notices nothing.
func TestConsolePausesUnderLoad(t *testing.T) {
	s := newSetup(t, nil)
	before, stop := s.load(t)
	eventually(t, "load", func() bool { return s.transactions(t) > before+50 })
	s.console(t, "PAUSE app")
	if servers := s.console(t, "SHOW SERVERS"); strings.Contains(servers, "S|app|app") {
		t.Errorf("servers of a paused database:\n%s", servers)
	}
	paused := s.transactions(t)
	eventually(t, "waiting sessions", func() bool { return strings.Contains(s.console(t, "SHOW CLIENTS"), "|waiting|") })
	if n := s.transactions(t); n != paused {
		t.Errorf("%d transactions during the pause", n-paused)
	}
	s.console(t, "RESUME app", "RECONNECT", "WAIT_CLOSE app", "RECONNECT app", "PAUSE", "RESUME")
	out := stop()
	match := regexp.MustCompile(`actually processed: (\d+)`).FindStringSubmatch(out)
	if match == nil {
		t.Fatal(out)
	}
	done, _ := strconv.Atoi(match[1])
	// pgbench asks for the scale and the partitions of its tables first, in two transactions or so.
	if counted := s.transactions(t) - before; counted < done || counted > done+5 {
		t.Errorf("SHOW STATS counted %d transactions, pgbench %d", counted, done)
	}
}

func TestConsoleCommands(t *testing.T) {
	s := newSetup(t, nil)
	ctx := testContext(t)
	client := s.connect(t)
	if _, err := client.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	admin := s.pgxConsole(t, "postgres", "super")
	s.refusedBy(t, admin, "resume", "55000")
	s.refusedBy(t, admin, "resume app", "55000")
	s.refusedBy(t, admin, "kill_client 99999", "08003")
	s.refusedBy(t, admin, "pause walgate", "0A000")
	s.refusedBy(t, admin, "reload", "0A000")
	s.refusedBy(t, admin, "shutdown", "0A000")
	s.console(t, "DISABLE app")
	var told *pgconn.PgError
	if _, err := pgx.Connect(ctx, s.url("app", "secret", "app")); !errors.As(err, &told) || told.Code != "57P03" {
		t.Errorf("a client of a disabled database got: %v", err)
	}
	if _, err := client.Exec(ctx, "select 1"); err != nil {
		t.Errorf("a client of before: %v", err)
	}
	s.console(t, "ENABLE app")
	s.connect(t)
	s.cancelledPause(t, admin, client)
	s.console(t, "KILL_CLIENT "+strconv.Itoa(int(client.PgConn().PID())))
	if _, err := client.Exec(ctx, "select 1"); err == nil {
		t.Error("a client that was killed goes on")
	}
	other := s.connect(t)
	s.console(t, "KILL app")
	if _, err := other.Exec(ctx, "select 1"); err == nil {
		t.Error("a client of a database that was killed goes on")
	}
	s.console(t, "RESUME app")
	if _, err := s.connect(t).Exec(ctx, "select 1"); err != nil {
		t.Error(err)
	}
}

// cancelledPause checks that a pause that is cancelled leaves nothing behind, and that a turn held by one can be
// cancelled.
func (s *setup) cancelledPause(t *testing.T, admin, client *pgx.Conn) {
	t.Helper()
	ctx := testContext(t)
	tx, err := client.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := admin.Exec(ctx, "PAUSE app")
		done <- err
	}()
	eventually(t, "the pause", func() bool { return strings.Contains(s.console(t, "SHOW STATE"), "paused_databases|app") })
	if err := admin.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	var told *pgconn.PgError
	if err := <-done; !errors.As(err, &told) || told.Code != "57014" {
		t.Errorf("a cancelled PAUSE: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Error(err)
	}
	if _, err := client.Exec(ctx, "select 1"); err != nil {
		t.Errorf("after a cancelled PAUSE: %v", err)
	}
	s.console(t, "PAUSE app")
	go func() {
		_, err := client.Exec(ctx, "select 1")
		done <- err
	}()
	eventually(t, "a held turn", func() bool { return strings.Contains(s.console(t, "SHOW CLIENTS"), "|waiting|") })
	if err := client.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.As(err, &told) || told.Code != "57014" {
		t.Errorf("a cancelled turn: %v", err)
	}
	s.console(t, "RESUME app")
}

// TestConsoleSurvivesItsClient sends what no driver would.
func TestConsoleSurvivesItsClient(t *testing.T) {
	s := newSetup(t, nil)
	for name, bytes := range map[string]string{
		"huge": "Q\x7f\xff\xff\xff", "negative": "Q\xff\xff\xff\xff", "unknown": "~\x00\x00\x00\x04", "torn bind": "B\x00\x00\x00\x06\x00\x00",
		"no end": "Q\x00\x00\x00\x06ab", "empty describe": "D\x00\x00\x00\x04",
	} {
		conn := s.pgxConsole(t, "postgres", "super")
		raw, err := conn.PgConn().Hijack()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := raw.Conn.Write([]byte(bytes + "S\x00\x00\x00\x04")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 1)
		if _, err := raw.Conn.Read(answer); err != nil || answer[0] != 'E' {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
		_ = raw.Conn.Close()
	}
	s.console(t, "SHOW VERSION")
}
