package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestEndpoint holds everything that a healthy cluster is enough for: what applications meet at the sidecar, and what
// tools meet at the API.
func TestEndpoint(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 3)
	d.awaitHealthy(t)
	setup := dial(t, d.endpoint(t))
	do(t, setup, "create table items (id bigint primary key, body text)")
	do(t, setup, "insert into items select i, 'body ' || i from generate_series(1, 1000) i")
	// Until the catalog of the database has been read, whatever reads a relation runs on the primary.
	p := d.places(t)
	await(t, healLimit, "reads of relations on standbys", func(context.Context) error {
		if port := ask[int](t, setup, "select inet_server_port() from items where id = 1"); !p.standby(port) {
			return fmt.Errorf("one ran on port %d", port)
		}
		return nil
	})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Demo)
	}{
		{"psql", testPsql},
		{"pgbench", testPgbench},
		{"reads on standbys, writes on the primary", testPlaces},
		{"targets and hints", testTargets},
		{"read your writes", testReadYourWrites},
		{"strong reads", testStrongReads},
		{"tokens between proxies", testTokens},
		{"lag and fallback", testLag},
		{"settings are carried", testSettings},
		{"prepared statements are carried", testPrepared},
		{"statements prepared in SQL", testPreparedInSQL},
		{"temporary tables pin", testTemporaryTable},
		{"advisory locks pin", testAdvisoryLock},
		{"LISTEN pins", testListen},
		{"COPY streams", testCopy},
		{"cancel", testCancel},
		{"errors", testErrors},
		{"logins", testLogins},
		{"Patroni's paths", testPatroniPaths},
		{"unsafe verbs", testUnsafeVerbs},
		{"status", testStatus},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, d) })
	}
}

// places maps the ports of the nodes' PostgreSQL to their roles.
type places struct{ primary, all []int }

func (d *Demo) places(t testing.TB) places {
	t.Helper()
	var p places
	primary := d.cluster(t).primary()
	for _, n := range d.facts(t).Nodes {
		_, text, err := net.SplitHostPort(n.Postgres)
		if err != nil {
			t.Fatalf("address of %s: %v", n.Name, err)
		}
		port, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("port of %s: %v", n.Name, err)
		}
		p.all = append(p.all, port)
		if n.Name == primary {
			p.primary = append(p.primary, port)
		}
	}
	return p
}

func (p places) standby(port int) bool { return slices.Contains(p.all, port) && !p.onPrimary(port) }

func (p places) onPrimary(port int) bool { return slices.Contains(p.primary, port) }

// client runs one of PostgreSQL's client programs against the sidecar.
func client(t *testing.T, d *Demo, program string, args ...string) string {
	t.Helper()
	path, err := postgresBinary(program)
	if err != nil {
		t.Skip("SKIPPED: " + err.Error())
	}
	f := d.facts(t)
	host, port, err := net.SplitHostPort(f.Sidecar.Addr)
	if err != nil {
		t.Fatalf("address of the sidecar: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), verbLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGUSER="+f.User, "PGPASSWORD="+f.Password,
		"PGDATABASE="+f.Database, "PGSSLMODE=disable")
	out := finish(cmd)
	if out.err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), out.err, out)
	}
	return out.stdout + out.stderr
}

func testPsql(t *testing.T, d *Demo) {
	p := d.places(t)
	where := "select inet_server_port() from items where id = 1"
	lines := strings.Fields(client(t, d, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", where, "-c", "begin", "-c", where, "-c", "commit",
		"-c", "insert into items values (5001, 'psql') returning inet_server_port()", "-c", "select count(*) from items where id = 5001"))
	if len(lines) < 4 {
		t.Fatalf("psql says %q", lines)
	}
	port := func(i int) int { n, _ := strconv.Atoi(lines[i]); return n }
	if !p.standby(port(0)) {
		t.Errorf("a plain read ran on port %s; primary is %v of %v", lines[0], p.primary, p.all)
	}
	if !p.onPrimary(port(1)) {
		t.Errorf("a read in a transaction ran on port %s; primary is %v", lines[1], p.primary)
	}
	if !p.onPrimary(port(2)) {
		t.Errorf("an insert ran on port %s; primary is %v", lines[2], p.primary)
	}
	if lines[3] != "1" {
		t.Errorf("a read after the write sees %s rows, want 1", lines[3])
	}
	if out := client(t, d, "psql", "-Xq", "-c", `\d items`); !strings.Contains(out, "items_pkey") {
		t.Errorf(`\d items says %q`, out)
	}
	for _, target := range []string{"read-write", "primary", "any", "prefer-standby"} {
		out := client(t, d, "psql", "-XAtq", "-d", "target_session_attrs="+target, "-c", "show transaction_read_only")
		if strings.TrimSpace(out) != "off" {
			t.Errorf("transaction_read_only is %q for target_session_attrs=%s", out, target)
		}
	}
}

func testPgbench(t *testing.T, d *Demo) {
	client(t, d, "pgbench", "-i", "-s", "2", "-q")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, script := range []string{"tpcb-like", "select-only"} {
			out := client(t, d, "pgbench", "-n", "-M", mode, "-b", script, "-c", "6", "-j", "2", "-T", "2")
			if !strings.Contains(out, "number of failed transactions: 0 ") {
				t.Errorf("pgbench -M %s -b %s:\n%s", mode, script, out)
			}
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "tps = ") {
					t.Logf("%s %s: %s", mode, script, strings.TrimSpace(line))
				}
			}
		}
	}
	conn := dial(t, d.endpoint(t))
	if d := ask[int64](t, conn, "select (select sum(bbalance) from pgbench_branches) - (select sum(delta) from pgbench_history)"); d != 0 {
		t.Errorf("branches and history differ by %d", d)
	}
}

func testPlaces(t *testing.T, d *Demo) {
	p := d.places(t)
	conn := dial(t, d.endpoint(t))
	// pgx asks pg_is_in_recovery(), which answers for the endpoint when it is all that is asked.
	for _, target := range []string{"primary", "read-write"} {
		_ = dial(t, d.endpoint(t)+"&target_session_attrs="+target)
	}
	seen := map[int]int{}
	for i := range 60 {
		port := ask[int](t, conn, "select inet_server_port() from items where id = $1", i+1)
		if seen[port]++; !p.standby(port) {
			t.Fatalf("read %d of a session without writes ran on port %d; primary is %v of %v", i, port, p.primary, p.all)
		}
	}
	if !ask[bool](t, conn, "select pg_is_in_recovery() from items where id = 1") {
		t.Error("pg_is_in_recovery() is false for a plain read")
	}
	do(t, conn, "create sequence places")
	for _, sql := range []string{
		"insert into items values (6002, 'x') returning inet_server_port()",
		"update items set body = 'y' where id = 6002 returning inet_server_port()",
		"select inet_server_port() from items where id = 6002 for update",
		"with gone as (delete from items where id = 6002 returning id) select inet_server_port() from gone",
		"select inet_server_port() from (select setval('places', 1)) s",
	} {
		if port := ask[int](t, conn, sql); !p.onPrimary(port) {
			t.Errorf("%s ran on port %d; primary is %v", sql, port, p.primary)
		}
	}
	inTransaction(t, conn, pgx.TxOptions{}, func() {
		if port := ask[int](t, conn, "select inet_server_port() from items where id = 1"); !p.onPrimary(port) {
			t.Errorf("a read in a transaction ran on port %d; primary is %v", port, p.primary)
		}
	})
	awaitStandby(t, conn, p)
	t.Logf("reads by port: %v", seen)
}

// awaitStandby returns when the reads of a session have gone back to standbys after it wrote or read on the primary.
func awaitStandby(t *testing.T, conn *pgx.Conn, p places) {
	t.Helper()
	await(t, 10*time.Second, "reads to go back to standbys", func(ctx context.Context) error {
		var port int
		if err := conn.QueryRow(ctx, "select inet_server_port() from items where id = 1").Scan(&port); err != nil {
			return err
		}
		if !p.standby(port) {
			return fmt.Errorf("the read ran on port %d", port)
		}
		return nil
	})
}

func inTransaction(t testing.TB, conn *pgx.Conn, options pgx.TxOptions, run func()) {
	t.Helper()
	tx, err := conn.BeginTx(t.Context(), options)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	run()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func testTargets(t *testing.T, d *Demo) {
	p := d.places(t)
	conn := dial(t, d.endpoint(t))
	where := "select inet_server_port() from items where id = 1"
	do(t, conn, "set walgate.target = 'primary'")
	if port := ask[int](t, conn, where); !p.onPrimary(port) {
		t.Errorf("with walgate.target = 'primary' a read ran on port %d", port)
	}
	do(t, conn, "set walgate.target = 'replica'")
	// The read before it was on the primary: a standby serves the session when it is known to have come that far.
	awaitStandby(t, conn, p)
	do(t, conn, "reset walgate.target")
	if port := ask[int](t, conn, "/* walgate: target=primary */ "+where); !p.onPrimary(port) {
		t.Errorf("with a hint for the primary a read ran on port %d", port)
	}
	startup := dial(t, d.endpoint(t)+"&walgate.target=primary")
	if port := ask[int](t, startup, where); !p.onPrimary(port) {
		t.Errorf("with the startup parameter walgate.target=primary a read ran on port %d", port)
	}
}

func testReadYourWrites(t *testing.T, d *Demo) {
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create table counters (id int primary key, n int)")
	do(t, conn, "insert into counters values (1, 0)")
	p := d.places(t)
	started, standby := time.Now(), 0
	for i := 1; i <= 500; i++ {
		do(t, conn, "update counters set n = $1 where id = 1", i)
		var n, port int
		if err := conn.QueryRow(t.Context(), "select n, inet_server_port() from counters where id = 1").Scan(&n, &port); err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
		if n != i {
			t.Fatalf("after writing %d the session reads %d on port %d (primary is %v)", i, n, port, p.primary)
		}
		if p.standby(port) {
			standby++
		}
	}
	t.Logf("500 writes each followed by a read in %s; %d of the reads ran on standbys", time.Since(started).Round(time.Millisecond), standby)
}

func testStrongReads(t *testing.T, d *Demo) {
	writer, reader := dial(t, d.endpoint(t)), dial(t, d.endpoint(t))
	do(t, writer, "create table notes (n int)")
	do(t, writer, "insert into notes values (0)")
	do(t, reader, "set walgate.consistency = 'strong'")
	for i := 1; i <= 100; i++ {
		do(t, writer, "update notes set n = $1", i)
		if n := ask[int](t, reader, "select n from notes"); n != i {
			t.Fatalf("after %d was acknowledged to another session, a strong read gives %d", i, n)
		}
	}
}

// crowd is more sessions than a pool has server connections, so that sessions meet servers that others have used.
const crowd = 30

func eachOfCrowd(t *testing.T, d *Demo, run func(i int, conn *pgx.Conn) error) {
	t.Helper()
	conns := make([]*pgx.Conn, crowd)
	for i := range conns {
		conns[i] = dial(t, d.endpoint(t))
	}
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() {
			if err := run(i, conn); err != nil {
				t.Errorf("session %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func testSettings(t *testing.T, d *Demo) {
	eachOfCrowd(t, d, func(i int, conn *pgx.Conn) error {
		tenant, timeout, path := fmt.Sprintf("tenant %d", i), fmt.Sprintf("%ds", 100+i), fmt.Sprintf("schema%d, public", i)
		for _, sql := range []string{
			"set my.tenant = '" + tenant + "'", "set statement_timeout = '" + timeout + "'", "set search_path = " + path,
			fmt.Sprintf("set application_name = 'crowd %d'", i),
		} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		for round := range 8 {
			sql := "select current_setting('my.tenant') || '|' || current_setting('statement_timeout') || '|' || current_setting('search_path')"
			if round%2 == 1 {
				sql += " from items where id = 1 for share" // on the primary
			}
			var got string
			if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
				return err
			}
			// 120s is shown as 2min.
			if parts := strings.Split(got, "|"); parts[0] != tenant || parts[2] != path || parts[1] != timeout && i != 20 {
				return fmt.Errorf("round %d: settings are %q, want %q, %q, %q", round, got, tenant, timeout, path)
			}
		}
		return nil
	})
}

func testPrepared(t *testing.T, d *Demo) {
	eachOfCrowd(t, d, func(i int, conn *pgx.Conn) error {
		// The same names with another meaning in each session, by protocol.
		if _, err := conn.Prepare(t.Context(), "shared", fmt.Sprintf("select $1::int + %d from items where id = 1", i)); err != nil {
			return err
		}
		if _, err := conn.Prepare(t.Context(), "shared_write", fmt.Sprintf("select $1::int - %d from items where id = 1 for share", i)); err != nil {
			return err
		}
		for round := range 8 {
			var plus, minus int
			if err := conn.QueryRow(t.Context(), "shared", round).Scan(&plus); err != nil {
				return fmt.Errorf("round %d: execute: %w", round, err)
			}
			if err := conn.QueryRow(t.Context(), "shared_write", round).Scan(&minus); err != nil {
				return fmt.Errorf("round %d: execute on the primary: %w", round, err)
			}
			if plus != round+i || minus != round-i {
				return fmt.Errorf("round %d: got %d, %d", round, plus, minus)
			}
		}
		return nil
	})
}

func testPreparedInSQL(t *testing.T, d *Demo) {
	var conns []*pgx.Conn
	for i := range 4 {
		conn := dial(t, d.endpoint(t))
		do(t, conn, fmt.Sprintf("prepare sql_shared (int) as select $1 * %d", i))
		conns = append(conns, conn)
	}
	for round := range 5 {
		for i, conn := range conns {
			execute := fmt.Sprintf("execute sql_shared(%d)", round)
			if n := ask[int](t, conn, execute, pgx.QueryExecModeSimpleProtocol); n != round*i {
				t.Errorf("session %d: %s gives %d, want %d", i, execute, n, round*i)
			}
		}
	}
	for _, conn := range conns {
		do(t, conn, "deallocate sql_shared")
	}
	_, err := conns[0].Exec(t.Context(), "execute sql_shared(1)", pgx.QueryExecModeSimpleProtocol)
	if sqlstate(err) != "26000" {
		t.Errorf("after DEALLOCATE: %v; want SQLSTATE 26000", err)
	}
}

func testTemporaryTable(t *testing.T, d *Demo) {
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create temporary table scratch (n int)")
	eachOfCrowd(t, d, func(_ int, other *pgx.Conn) error {
		_, err := other.Exec(t.Context(), "update items set body = body where id = 1")
		return err
	})
	do(t, conn, "insert into scratch values (1), (2)")
	if n := ask[int](t, conn, "select count(*) from scratch"); n != 2 {
		t.Errorf("the temporary table has %d rows, want 2", n)
	}
	do(t, conn, "discard all")
	var n int
	err := conn.QueryRow(t.Context(), "select count(*) from scratch", pgx.QueryExecModeSimpleProtocol).Scan(&n)
	if sqlstate(err) != "42P01" {
		t.Errorf("after DISCARD ALL the temporary table gives %d rows, %v; want 42P01", n, err)
	}
}

func testAdvisoryLock(t *testing.T, d *Demo) {
	holder, other := dial(t, d.endpoint(t)), dial(t, d.endpoint(t))
	do(t, holder, "select pg_advisory_lock(4711)")
	for range 5 {
		if ask[bool](t, other, "select pg_try_advisory_lock(4711)") {
			t.Fatal("another session took the lock")
		}
		do(t, holder, "select 1")
	}
	if !ask[bool](t, holder, "select pg_advisory_unlock(4711)") {
		t.Error("the holder could not unlock: it met another server connection")
	}
	if !ask[bool](t, other, "select pg_try_advisory_lock(4711)") {
		t.Error("the lock is not free after it was given back")
	}
	do(t, other, "select pg_advisory_unlock_all()")
}

func testListen(t *testing.T, d *Demo) {
	listener, notifier := dial(t, d.endpoint(t)), dial(t, d.endpoint(t))
	do(t, listener, "listen news")
	do(t, notifier, "notify news, 'while idle'")
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	n, err := listener.WaitForNotification(ctx)
	if err != nil {
		t.Fatalf("wait for a notification: %v", err)
	}
	if n.Channel != "news" || n.Payload != "while idle" {
		t.Errorf("got %q on %q", n.Payload, n.Channel)
	}
	do(t, listener, "unlisten *")
}
