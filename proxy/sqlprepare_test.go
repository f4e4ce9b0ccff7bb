package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
)

// tags runs a query string and returns its command tags, or the message of its error.
func tags(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	results, err := conn.PgConn().Exec(testContext(t), sql).ReadAll()
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, r := range results {
		list = append(list, r.CommandTag.String())
	}
	return strings.Join(list, ", ")
}

// value runs a query string and returns the first value of its last result, or the message of its error.
func value(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	results, err := conn.PgConn().Exec(testContext(t), sql).ReadAll()
	if err != nil {
		return err.Error()
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return last.CommandTag.String()
	}
	return string(last.Rows[0][0])
}

// TestStatementsPreparedInSQL: they are carried from server to server, in one namespace with those of Parse, and look to
// their client as if they were its own.
func TestStatementsPreparedInSQL(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Pools, c.PoolMax = nil, 2 })
	a, b, blocker := s.connect(t), s.connect(t), s.connect(t)
	expect := func(what, got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	// elsewhere runs f while the server connection that was used last is not to be had.
	elsewhere := func(f func()) {
		mustExec(t, blocker, "begin; select 1")
		f()
		mustExec(t, blocker, "commit")
	}
	expect("PREPARE", tags(t, a, "prepare p(int) as select $1 + 1"), "PREPARE")
	expect("the same name", tags(t, b, "prepare p as select 'b'"), "PREPARE")
	elsewhere(func() {
		expect("EXECUTE elsewhere", value(t, a, "execute p(1)"), "2")
		expect("of the other", value(t, b, "execute p"), "b")
		expect("EXPLAIN EXECUTE", value(t, a, "explain execute p(1)"), "Result")
		expect("the text of another", tags(t, b, "prepare q(int) as select $1 + 1"), "PREPARE")
	})
	expect("CREATE TABLE AS EXECUTE", tags(t, a, "create table made as execute p(1)"), "SELECT 1")
	expect("a name that is taken", tags(t, a, "prepare p(int) as select $1 + 1"), `prepared statement "p" already exists`)
	expect("a name that nobody has", value(t, a, "execute nope"), `prepared statement "nope" does not exist`)
	expect("syntax", tags(t, a, "prepare bad as select from from"), "syntax error")
	expect("after the error", value(t, a, "execute bad"), "does not exist")
	expect("several at once", value(t, a, "select 1; execute p(5)"), "6")

	// Statements outlive a rollback, and a failed PREPARE leaves nothing.
	expect("in a transaction", tags(t, a, "begin"), "BEGIN")
	expect("in a transaction", tags(t, a, "prepare r as select 'r'"), "PREPARE")
	expect("in a transaction", tags(t, a, "rollback"), "ROLLBACK")
	elsewhere(func() { expect("behind ROLLBACK", value(t, a, "execute r"), "r") })
	mustExec(t, a, "create table later (x int)")
	expect("PREPARE that will fail elsewhere", tags(t, a, "prepare later as select count(*) from later"), "PREPARE")
	mustExec(t, a, "drop table later")
	elsewhere(func() {
		expect("the error of PREPARE is that of EXECUTE", value(t, a, "execute later"), `relation "later" does not exist`)
		expect("goes on", value(t, a, "execute p(1)"), "2")
		mustExec(t, a, "begin")
		expect("in a transaction", value(t, a, "execute later"), `relation "later" does not exist`)
		expect("failed", value(t, a, "execute p(1)"), "current transaction is aborted")
		expect("failed", tags(t, a, "commit"), "ROLLBACK")
	})

	// One namespace with the protocol.
	elsewhere(func() {
		r := a.PgConn().ExecPrepared(testContext(t), "p", [][]byte{[]byte("41")}, nil, nil).Read()
		if r.Err != nil || len(r.Rows) != 1 || string(r.Rows[0][0]) != "42" {
			t.Errorf("Bind of what was prepared in SQL: %+v", r)
		}
		r = a.PgConn().ExecParams(testContext(t), "execute p(6)", nil, nil, nil, nil).Read()
		if r.Err != nil || len(r.Rows) != 1 || string(r.Rows[0][0]) != "7" {
			t.Errorf("EXECUTE through Parse: %+v", r)
		}
	})
	if _, err := a.PgConn().Prepare(testContext(t), "p", "select 1", nil); sqlstate(err) != "42P05" ||
		!strings.Contains(err.Error(), `"p"`) {
		t.Errorf("Parse of a name that PREPARE took: %v", err)
	}
	if _, err := a.PgConn().Prepare(testContext(t), "proto", "select $1::int * 2", nil); err != nil {
		t.Fatal(err)
	}
	elsewhere(func() { expect("EXECUTE of what was parsed", value(t, a, "execute proto(4)"), "8") })
	expect("DEALLOCATE", tags(t, a, "deallocate p"), "DEALLOCATE")
	expect("it is gone", value(t, a, "execute p(1)"), `prepared statement "p" does not exist`)
	expect("that of the other is not", value(t, b, "execute p"), "b")
	expect("among others", tags(t, a, "select 1; deallocate r"), "SELECT 1, DEALLOCATE")
	expect("it is gone", value(t, a, "execute r"), "does not exist")
	expect("DEALLOCATE ALL", tags(t, a, "deallocate all"), "DEALLOCATE ALL")
	expect("all are gone", value(t, a, "execute proto(1)"), "does not exist")

	for _, session := range s.server.Sessions() {
		if session.Pinned != "" {
			t.Errorf("a session is pinned: %s", session.Pinned)
		}
	}
	// What a string of several statements prepares stays where it is, and pins.
	expect("in one string", tags(t, b, "deallocate all; prepare x as select 'x'"), "DEALLOCATE ALL, PREPARE")
	elsewhere(func() { expect("pinned", value(t, b, "execute x"), "x") })
	expect("released", tags(t, b, "deallocate all"), "DEALLOCATE ALL")
	expect("gone", value(t, b, "execute x"), "does not exist")
}
