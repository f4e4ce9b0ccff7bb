package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy"
)

// carried is a proxy with a pool of two server connections, and a way to make one of them not to be had.
type carried struct {
	*setup
	t       *testing.T
	blocker *pgx.Conn
}

func newCarried(t *testing.T) *carried {
	s := newSetup(t, func(c *proxy.Config) { c.Pools, c.PoolMax = nil, 2 })
	return &carried{s, t, s.connect(t)}
}

// elsewhere runs f while the server connection that was used last is not to be had.
func (c *carried) elsewhere(blocker *pgx.Conn, f func()) {
	c.t.Helper()
	mustExec(c.t, blocker, "begin; select 1")
	f()
	mustExec(c.t, blocker, "commit")
}

func (c *carried) expect(what, got, want string) {
	c.t.Helper()
	if !strings.Contains(got, want) {
		c.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestSettingsOfSuperusersBehindAnotherRole: what a superuser has set is carried too when the session has become a lesser
// role since, and the other way round.
func TestSettingsOfSuperusersBehindAnotherRole(t *testing.T) {
	c := newCarried(t)
	c.pg.exec(t, "create role boss superuser", "grant boss to app", "alter role app noinherit")
	const show = "select concat_ws(' ', current_setting('log_min_duration_statement'), current_setting('work_mem'), session_user, current_user)"

	asSuper := "user=postgres password=super"
	super, blocker := c.connect(t, asSuper), c.connect(t, asSuper)
	mustExec(t, super, "set log_min_duration_statement = 77777")
	mustExec(t, super, "set session authorization app")
	mustExec(t, super, "set work_mem = '77MB'")
	for range 2 {
		c.elsewhere(blocker, func() { c.expect("as app", value(t, super, show), "77777ms 77MB app app") })
	}
	mustExec(t, super, "reset session authorization")
	c.elsewhere(blocker, func() { c.expect("as oneself again", value(t, super, show), "77777ms 77MB postgres postgres") })

	app := c.connect(t)
	mustExec(t, app, "set role boss")
	mustExec(t, app, "set log_min_duration_statement = 55555")
	c.elsewhere(c.blocker, func() { c.expect("as boss", value(t, app, show), "55555ms 4MB app boss") })
	mustExec(t, app, "reset role")
	c.elsewhere(c.blocker, func() { c.expect("set as boss", value(t, app, show), "55555ms 4MB app app") })
	c.expect("nobody else has it", value(t, c.blocker, show), "-1 4MB app app")
	mustExec(t, app, "discard all")
	c.elsewhere(c.blocker, func() { c.expect("behind DISCARD ALL", value(t, app, show), "-1 4MB app app") })
}

// TestStatementsOutlastDefinitions: what is parsed behind a change of a table is what the table is now, and what was parsed
// before it is refused as PostgreSQL refuses it, wherever it runs.
func TestStatementsOutlastDefinitions(t *testing.T) {
	c := newCarried(t)
	ctx := testContext(t)
	direct, err := pgx.Connect(ctx, c.pg.direct("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = direct.Close(ctx) }()
	const text = "select a from shape where a is not null"
	a, b := c.connect(t), c.connect(t)
	prepare := func(conn *pgx.Conn, name string) uint32 {
		t.Helper()
		d, err := conn.PgConn().Prepare(ctx, name, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		return d.Fields[0].DataTypeOID
	}
	run := func(conn *pgx.Conn, name string) string {
		r := conn.PgConn().ExecPrepared(ctx, name, nil, nil, []int16{1}).Read()
		return sqlstate(r.Err)
	}
	for _, server := range []string{"this server", "another server"} {
		for _, ddl := range []*pgx.Conn{b, direct} {
			mustExec(t, b, "drop table if exists shape")
			mustExec(t, b, "create table shape (a int)")
			mustExec(t, a, "deallocate all")
			prepare(a, "old")
			if got := run(a, "old"); got != "" {
				t.Fatalf("%s: %s", server, got)
			}
			mustExec(t, ddl, "alter table shape alter a type text")
			used := func() {
				mustExec(t, a, "begin") // nothing can be run again in here
				c.expect(server+", in a transaction", run(a, "old"), "0A000")
				mustExec(t, a, "rollback")
				c.expect(server, run(a, "old"), "0A000")
				c.expect(server+", again", run(a, "old"), "0A000")
			}
			if server == "this server" {
				used()
			} else {
				c.elsewhere(c.blocker, used)
			}
			if ddl == direct {
				continue
			}
			mustExec(t, a, "begin")
			if oid := prepare(a, "new"); oid != 25 {
				t.Errorf("%s: parsed anew, column of type %d", server, oid)
			}
			c.expect(server+", parsed anew", run(a, "new"), "")
			mustExec(t, a, "rollback")
			// What is parsed within a transaction that changes the table is of no use behind its rollback.
			mustExec(t, a, "begin; alter table shape alter a type float8 using 1")
			if oid := prepare(a, "inside"); oid != 701 {
				t.Errorf("%s: parsed within, column of type %d", server, oid)
			}
			mustExec(t, a, "rollback")
			mustExec(t, a, "begin")
			if oid := prepare(a, "behind"); oid != 25 {
				t.Errorf("%s: parsed behind the rollback, column of type %d", server, oid)
			}
			mustExec(t, a, "rollback")
		}
	}
	// A temporary table hides one for whom has it, and for nobody else.
	prepare(b, "before")
	mustExec(t, a, "create temp table shape (a int)")
	if oid := prepare(a, "temporary"); oid != 23 {
		t.Errorf("behind CREATE TEMP TABLE: column of type %d", oid)
	}
	mustExec(t, a, "discard all")
	if oid := prepare(a, "temporary"); oid != 25 {
		t.Errorf("behind DISCARD ALL: column of type %d", oid)
	}
}

// TestStatementsOfSearchPaths: a text that means different tables to different clients is not shared.
func TestStatementsOfSearchPaths(t *testing.T) {
	c := newCarried(t)
	a, b := c.connect(t), c.connect(t)
	mustExec(t, a, "create schema one; create schema two; create table one.t (a int); create table two.t (a text); insert into one.t values (1); insert into two.t values ('x')")
	mustExec(t, a, "set search_path = one")
	mustExec(t, b, "set search_path = two")
	for range 3 {
		mustExec(t, a, "begin")
		if got := query[int](t, a, "select a from t"); got != 1 {
			t.Errorf("one: %d", got)
		}
		mustExec(t, a, "commit")
		mustExec(t, b, "begin")
		if got := query[string](t, b, "select a from t"); got != "x" {
			t.Errorf("two: %s", got)
		}
		mustExec(t, b, "commit")
	}
}

// TestDismissed: a statement that an administrator ends with its connection had no effect, and the client is told so.
func TestDismissed(t *testing.T) {
	c := newCarried(t)
	a := c.connect(t)
	super := c.connect(t, "user=postgres password=super")
	mustExec(t, a, "create table dismissed (a int)")
	done := make(chan error, 1)
	go func() { // ends with its statement
		_, err := a.Exec(testContext(t), "insert into dismissed select 1 from pg_sleep(100)")
		done <- err
	}()
	eventually(t, "the statement to be ended", func() bool {
		return query[int](t, super, "select count(pg_terminate_backend(pid))::int from pg_stat_activity where query like 'insert into dismissed%' and state = 'active'") == 1
	})
	if err := <-done; sqlstate(err) != "57P01" {
		t.Errorf("got %v, want 57P01", err)
	}
	if n := query[int](t, a, "select count(*)::int from dismissed"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// TestStatementsMissingInFailedTransaction: where a server has yet to prepare a statement, and can't in a failed
// transaction, turns that were sent at once hear of that and not of a statement that isn't there.
func TestStatementsMissingInFailedTransaction(t *testing.T) {
	c := newCarried(t)
	dial := func(url string) *leakLine {
		t.Helper()
		l, err := dialLeak(testContext(t), url, nil, leakPatience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.conn.Close() })
		return l
	}
	lines := map[string]*leakLine{"here": dial(c.url("app", "secret", "app")), "directly": dial(c.pg.direct("app"))}
	all := func(messages ...pgproto3.FrontendMessage) {
		t.Helper()
		heard := map[string]string{}
		for name, l := range lines {
			said, err := l.exchange(messages...)
			if err != nil {
				t.Fatal(err)
			}
			heard[name] = strings.Join(said, "\n")
		}
		if heard["here"] != heard["directly"] {
			t.Errorf("heard\n%s\nwant\n%s", heard["here"], heard["directly"])
		}
	}
	query := func(sql string) pgproto3.FrontendMessage { return &pgproto3.Query{String: sql} }
	parse, sync := &pgproto3.Parse{Name: "p", Query: "select 1"}, &pgproto3.Sync{}
	bind, execute := &pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Execute{}
	all(parse, sync)
	for _, end := range []string{"commit", "rollback", "select 1; commit; select 2"} { // of a transaction that may have begun nowhere
		all(query("begin"))
		all(&pgproto3.Parse{Query: end}, &pgproto3.Bind{}, execute, sync)
		all(query("begin"))
		all(query(end), query("select 3"), query("rollback"))
	}
	all(query("begin"))
	all(query("declare c cursor for select 1"))
	all(query("select name, statement from pg_cursors"))
	all(query("rollback"))
	all(query("begin"))
	all(query("selekt"), bind, sync, &pgproto3.Bind{PreparedStatement: "none"}, sync, &pgproto3.Describe{ObjectType: 'S', Name: "none"}, sync)
	all(query("rollback"))
	for _, messages := range [][]pgproto3.FrontendMessage{
		{parse, sync, bind, execute, sync},
		{bind, execute, sync, bind, execute, sync},
		{query("prepare q as select 2"), bind, execute, sync},
		{bind, sync, query("execute p"), query("execute p")},
		{query("execute p"), query("execute p"), bind, sync},
	} {
		c.elsewhere(c.blocker, func() {
			all(query("begin"))
			all(query("select 1/0"))
			all(messages...)
			all(query("rollback"))
		})
	}
}
