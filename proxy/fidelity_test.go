package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/proxy"
)

// parameter runs a statement with one parameter in text format and returns the first value of its result.
func parameter(t *testing.T, conn *pgx.Conn, sql, value string) string {
	t.Helper()
	r := conn.PgConn().ExecParams(testContext(t), sql, [][]byte{[]byte(value)}, nil, nil, nil).Read()
	if r.Err != nil {
		return r.Err.Error()
	}
	return string(r.Rows[0][0])
}

// TestProcessIDs: the process id that a client is told is its session's. Where a client uses it, it means the server that
// works for the session at the moment.
func TestProcessIDs(t *testing.T) {
	s := newSetup(t, nil)
	a, b := s.connect(t), s.connect(t)
	id := fmt.Sprint(a.PgConn().PID())
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	ctx := testContext(t)
	if _, err := b.PgConn().Prepare(ctx, "named", "select count(*) from pg_stat_activity where pid in ("+id+")", nil); err != nil {
		t.Fatal(err)
	}
	named := func() string { return string(b.PgConn().ExecPrepared(ctx, "named", nil, nil, nil).Read().Rows[0][0]) }
	expect("prepared, without a server", named(), "0")
	expect("without a server", value(t, b, "select pid from pg_stat_activity where pid = "+id), "SELECT 0")
	mustExec(t, a, "begin")
	server := value(t, a, "select pg_backend_pid()")
	expect("of itself", value(t, a, "select pg_backend_pid() from pg_stat_activity where pid = "+id), server)
	expect("with a server", value(t, b, "select pid from pg_stat_activity where pid = "+id), server)
	expect("in an array", value(t, b, "select pid from pg_stat_activity where pid = any('{1,"+id+"}')"), server)
	expect("as a text", parameter(t, b, "select pid from pg_stat_activity where pid = $1", id), server)
	expect("prepared, with a server", named(), "1")
	var binary int
	if err := b.QueryRow(ctx, "select pid from pg_stat_activity where pid = $1::int4", a.PgConn().PID()).Scan(&binary); err != nil {
		t.Fatal(err)
	}
	expect("in binary", fmt.Sprint(binary), server)
	expect("where no process is named", value(t, b, "select "+id), id)
	expect("what only looks like it", value(t, b, "select count(*) from pg_stat_activity where 'x"+id+"' = 'x'"), "0")

	expect("cancelled", value(t, b, "select pg_cancel_backend("+id+")"), "t")
	mustExec(t, a, "rollback")
	mustExec(t, a, "begin")
	server = value(t, a, "select pg_backend_pid()")
	mustExec(t, b, "select pg_terminate_backend("+id+")")
	eventually(t, "its end", func() bool { return value(t, b, "select count(*) from pg_stat_activity where pid = "+server) == "0" })
	if _, err := a.Exec(ctx, "select 1"); sqlstate(err) != "40001" {
		t.Errorf("behind its end: %v", err)
	}
	mustExec(t, a, "rollback")
	mustExec(t, a, "select 1")
	var told *pgconn.PgError
	if _, err := a.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())"); !errors.As(err, &told) || told.Code != "57P01" {
		t.Errorf("its own end: %v", err)
	}
}

// TestSenderOfNotification: a notification tells the process id that its sender knows.
func TestSenderOfNotification(t *testing.T) {
	s := newSetup(t, nil)
	a, b := s.connect(t), s.connect(t)
	mustExec(t, a, "listen c")
	for _, sender := range []*pgx.Conn{a, b} {
		mustExec(t, sender, "notify c")
		n, err := a.WaitForNotification(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if n.PID != sender.PgConn().PID() {
			t.Errorf("from %d, want %d", n.PID, sender.PgConn().PID())
		}
	}
}

// TestOwnStatements: who looks at the statements on its server finds those of its session, under their names, and so does
// code that the proxy can't see.
func TestOwnStatements(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Pools, c.PoolMax = nil, 2 })
	a, b := s.connect(t), s.connect(t)
	expect := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	const list = "select string_agg(name || ': ' || statement, ' | ' order by name) from pg_prepared_statements"
	ctx := testContext(t)
	tags(t, a, "prepare p(int) as select $1 + 1")
	tags(t, a, `prepare  "Q" as select 'q';`)
	if _, err := a.PgConn().Prepare(ctx, "r", "select 'r'", nil); err != nil {
		t.Fatal(err)
	}
	mustExec(t, a, "create table going (x int)")
	tags(t, a, "prepare gone as select * from going")
	mustExec(t, a, "drop table going")
	tags(t, b, "prepare p as select 'of b'")
	const all = `Q: prepare  "Q" as select 'q'; | p: prepare p(int) as select $1 + 1 | r: select 'r'`
	expect("in a transaction", tags(t, a, "begin"), "BEGIN")
	expect("looked at", value(t, a, list), all)
	expect("goes on", tags(t, a, "commit"), "COMMIT")
	expect("looked at again", value(t, a, list), all)
	expect("those of the other", value(t, b, list), "p: prepare p as select 'of b'")
	expect("EXECUTE", value(t, a, "execute p(1)"), "2")
	expect("EXECUTE of what is gone", value(t, a, "execute gone"), `ERROR: relation "going" does not exist (SQLSTATE 42P01)`)
	expect("Bind", string(a.PgConn().ExecPrepared(ctx, "r", nil, nil, nil).Read().Rows[0][0]), "r")
	expect("PREPARE", tags(t, a, "prepare late as select 'late'"), "PREPARE")
	expect("a name that is taken", tags(t, a, "prepare p as select 1"), `ERROR: prepared statement "p" already exists (SQLSTATE 42P05)`)
	if _, err := a.PgConn().Prepare(ctx, "r", "select 'other'", nil); sqlstate(err) != "42P05" {
		t.Errorf("Parse of a name that is taken: %v", err)
	}
	if err := a.PgConn().Deallocate(ctx, "r"); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := a.PgConn().Prepare(ctx, "r", "select 'new'", nil); err != nil {
		t.Errorf("Parse of a name that is free again: %v", err)
	}
	expect("Bind", string(a.PgConn().ExecPrepared(ctx, "r", nil, nil, nil).Read().Rows[0][0]), "new")
	expect("DEALLOCATE", tags(t, a, "deallocate late"), "DEALLOCATE")
	expect("DEALLOCATE", tags(t, a, "execute late"), `ERROR: prepared statement "late" does not exist (SQLSTATE 26000)`)
	expect("DEALLOCATE ALL", tags(t, a, "deallocate all"), "DEALLOCATE ALL")
	expect("they are gone", tags(t, a, "execute p(1)"), `ERROR: prepared statement "p" does not exist (SQLSTATE 26000)`)

	tags(t, a, "prepare inner_one as select 'inside'")
	mustExec(t, a, `create function run(text) returns text language plpgsql as $$ declare r text; begin execute $1 into r; return r; end $$`)
	expect("from a function", value(t, a, "select run('execute inner_one')"), "inside")
	s.pg.exec(t, "select pg_terminate_backend("+value(t, a, "select pg_backend_pid()")+")")
	eventually(t, "the proxy sees the server's end", func() bool {
		for _, session := range s.server.Sessions() {
			if session.ID == a.PgConn().PID() {
				return session.Pinned == ""
			}
		}
		return false
	})
	expect("the loss is told", sqlstate(execError(ctx, a, "select 1")), "08006")
	expect("carried all the same", value(t, a, "execute inner_one"), "inside")
}

func execError(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// TestErrorPositions: an error in a statement that was rewritten shows its place in what the client has sent.
func TestErrorPositions(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "prepare p(int) as select $1")
	for sql, want := range map[string]int32{
		"prepare q as select nope":          21,
		"prepare \"größe\" as select nope":  27,
		"execute p('x')":                    11,
		"select 1; execute p(1); prepare 1": 33,
		"/* ü */ explain execute p('x')":    27,
		"prepare r(nope) as select 1":       11,
		"select 1; execute p(nope);":        21,
		"execute p(1); select nope":         22,
	} {
		var told *pgconn.PgError
		if err := execError(testContext(t), conn, sql); !errors.As(err, &told) || told.Position != want {
			t.Errorf("%s: %v at %d, want %d", sql, err, told.Position, want)
		}
	}
}

// TestHalfDateStyle: a SET of one half of DateStyle keeps the other wherever the session goes on.
func TestHalfDateStyle(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Pools, c.PoolMax = nil, 2 })
	a, blocker := s.connect(t), s.connect(t)
	mustExec(t, a, "set datestyle to sql, mdy")
	mustExec(t, a, "set datestyle to dmy")
	mustExec(t, blocker, "begin; select 1")
	if got := value(t, a, "select date '2001-02-03'"); got != "03/02/2001" {
		t.Errorf("%q, want 03/02/2001", got)
	}
}

// TestPlaceInSequence: as long as no other client needs the server connection, currval finds what nextval has left there.
func TestPlaceInSequence(t *testing.T) {
	s := newSetup(t, nil)
	a, b, c := s.connect(t), s.connect(t), s.connect(t)
	for _, conn := range []*pgx.Conn{a, b, c} { // a server connection for each
		mustExec(t, conn, "begin")
		mustExec(t, conn, "select 1")
	}
	for _, conn := range []*pgx.Conn{a, b, c} {
		mustExec(t, conn, "commit")
	}
	mustExec(t, a, "create sequence s start 10")
	for i := range 3 {
		first, second := value(t, a, "select nextval('s')"), value(t, b, "select nextval('s')")
		mustExec(t, c, "create table t(x int)")
		mustExec(t, c, "drop table t")
		if got := value(t, a, "select currval('s')"); got != first {
			t.Errorf("round %d: the first client gets %s, want %s", i, got, first)
		}
		if got := value(t, b, "select lastval()"); got != second {
			t.Errorf("round %d: the second client gets %s, want %s", i, got, second)
		}
	}
	mustExec(t, c, "begin")
	mustExec(t, c, "commit")
	mustExec(t, a, "discard sequences")
	if got := value(t, a, "select currval('s')"); got == "14" {
		t.Errorf("behind DISCARD SEQUENCES: %s", got)
	}
}
