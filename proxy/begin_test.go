package proxy_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/router"
)

// TestLazyTransactions holds that transactions which begin on a standby and go on on the primary are to their clients what
// PostgreSQL's are.
func TestLazyTransactions(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.MaxStatusAge, c.Level, c.Transactions = time.Hour, router.LevelEventual, router.TransactionsReads
	})
	s.withStandby(t)
	eventually(t, "the view to be seen", func() bool { return s.server.Report().Epoch == 1 })
	conn := s.connect(t)
	mustExec(t, conn, "create table lazily (i int)")
	const place = "select count(*) >= 0 and pg_is_in_recovery() from lazily"
	eventually(t, "reads on the standby", func() bool { return query[bool](t, conn, place) })
	for _, end := range []string{"commit", "rollback"} {
		mustExec(t, conn, "begin")
		if !query[bool](t, conn, place) {
			t.Error("a transaction that begins with a read ran on the primary")
		}
		if !query[bool](t, conn, place) {
			t.Error("it did not stay on the standby")
		}
		mustExec(t, conn, "insert into lazily values (1)")
		if query[bool](t, conn, place) || query[int](t, conn, "select count(*)::int from lazily") != 1 {
			t.Error("a transaction that has written does not read what it wrote")
		}
		if end == "commit" {
			mustExec(t, conn, "delete from lazily")
		}
		mustExec(t, conn, end)
	}
	if n := query[int](t, conn, "/* walgate: target=primary */ select count(*)::int from lazily"); n != 0 {
		t.Errorf("%d rows, want none", n)
	}
	mustExec(t, conn, "begin")
	query[bool](t, conn, place)
	mustExec(t, conn, "set local work_mem = '1MB'")
	if query[bool](t, conn, place) || query[string](t, conn, "show work_mem") != "1MB" {
		t.Error("SET LOCAL does not hold")
	}
	mustExec(t, conn, "rollback")
	mustExec(t, conn, "alter role app set default_transaction_isolation = 'repeatable read'")
	eventually(t, "the role's isolation level", func() bool {
		mustExec(t, conn, "begin")
		defer mustExec(t, conn, "commit")
		return !query[bool](t, conn, place) && query[string](t, conn, "show transaction_isolation") == "repeatable read"
	})
}

// TestBeginLikePostgreSQL holds that conversations with transactions that begin late are answered as PostgreSQL answers
// them.
func TestBeginLikePostgreSQL(t *testing.T) {
	for _, how := range []router.Transactions{router.TransactionsLazy, router.TransactionsReads} {
		t.Run(how.String(), func(t *testing.T) {
			s := newSetup(t, func(c *proxy.Config) {
				c.MaxStatusAge, c.Level, c.Transactions = time.Hour, router.LevelEventual, how
			})
			s.withStandby(t)
			eventually(t, "the view to be seen", func() bool { return s.server.Report().Epoch == 1 })
			s.pg.execIn(t, "app", "create table public.late (i int primary key)", "grant all on late to app")
			talks := [][]string{
				{"begin", "commit"}, {"begin", "rollback"}, {"start transaction", "end"}, {"begin;", "", "commit"},
				{"begin", "begin", "commit"}, {"commit"}, {"begin", "commit", "commit"},
				{"begin nonsense", "select 1"}, {"begin isolation level chaos"}, {"begin read write, isolation level serializable", "select 1", "commit"},
				{"begin", "selec 1", "select 1", "commit"}, {"begin", "select * from late where nothing = 1", "rollback"},
				{"begin", "insert into late values (1)", "insert into late values (1)", "commit", "select count(*) from late"},
				{"begin", "select 1/0", "rollback"}, {"begin", "select 1; select 1/0", "commit"}, {"begin", "select 1; commit; select 2"},
				{"begin", "set transaction isolation level repeatable read", "show transaction_isolation", "commit"},
				{"begin", "select 1", "set transaction isolation level repeatable read", "commit"},
				{"begin", "vacuum late", "rollback"}, {"begin", "savepoint a", "select 1/0", "rollback to a", "select 1", "commit"},
				{"begin", "select count(*) from late", "savepoint a", "insert into late values (2)", "rollback to a", "commit", "select * from late"},
				{"begin", "commit and chain", "insert into late values (3)", "rollback and chain", "select count(*) from late", "commit"},
				{"begin", "declare c cursor for select 1", "fetch c", "close c", "commit"}, {"begin", "discard all", "commit"},
				{"begin", "prepare transaction 'x'", "select 1"}, {"begin", "lock table late", "commit"}, {"begin", "select 1 into x from nowhere", "commit"},
				{"begin", "show transaction_read_only", "commit"}, {"begin", "set local search_path = pg_catalog", "show search_path", "commit", "show search_path"},
				{"begin", "copy late to stdout", "commit"}, {"begin", "select 'a' = any(1)", "commit"},
				{"begin", "select count(*) from late", "select  no_such_function(1)", "commit"}, {"begin", "do $$ begin commit; end $$", "commit"},
				{"begin", "commit foo"}, {"begin", "rollback work bla", "rollback"}, {"begin", "abort and nothing", "commit"}, {"begin", "commit and no chain"},
				{"begin", "selec 1", "rollback; select 1"}, {"begin", "selec 1", "rollback and chain", "select 1", "commit"},
				{"begin isolation level serializable", "selec 1", "rollback and chain", "show transaction_isolation", "commit"},
				{"begin", "selec 1", "rollback to a", "commit"}, {"begin", "selec 1", "selec 2", "", "commit"}, {"begin", "prepare p as", "select 1", "rollback"},
				{"begin", "select 1/0", "rollback; insert into late values (4)", "/* walgate: target=primary */ select * from late"},
				{"begin", "select count(*) from late", "select 1/0", "rollback; begin; insert into late values (5)", "commit"},
				{"begin", "select count(*) from late", "select 1/0", "rollback and chain", "insert into late values (6)", "commit"},
				{"begin", "/* walgate: target=replica */ select count(*) from late", "insert into late values (7)", "commit"},
				{"begin isolation level repeatable read", "/* walgate: target=replica */ select count(*) from late", "insert into late values (8)", "commit"},
				{"begin", "prepare p as select 1", "execute p", "commit", "deallocate p"},
				{"begin", "set transaction read only", "insert into late values (9)", "commit"},
				{"begin", "set statement_timeout = 0", "rollback", "show statement_timeout"}, {"begin; select 1", "commit"},
			}
			through := s.connect(t)
			config, err := pgconn.ParseConfig(s.pg.direct("app"))
			if err != nil {
				t.Fatal(err)
			}
			config.User = "app"
			plain, err := pgconn.ConnectConfig(testContext(t), config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = plain.Close(testContext(t)) }()
			for _, talk := range talks {
				var want, got []string
				for _, sql := range talk {
					want = append(want, answered(t, plain, sql))
				}
				s.pg.execIn(t, "app", "truncate late")
				for _, sql := range talk {
					got = append(got, answered(t, through.PgConn(), sql))
				}
				s.pg.execIn(t, "app", "truncate late")
				for i := range talk {
					if got[i] != want[i] {
						t.Errorf("%q, statement %d:\n got  %s\n want %s", talk, i, got[i], want[i])
					}
				}
			}
		})
	}
}

// answered runs a query string and words all that its client sees of the answer.
func answered(t *testing.T, conn *pgconn.PgConn, sql string) (text string) {
	t.Helper()
	results, err := conn.Exec(testContext(t), sql).ReadAll()
	for _, r := range results {
		text += r.CommandTag.String() + " "
		for _, row := range r.Rows {
			for _, v := range row {
				text += string(v) + ","
			}
		}
	}
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		text += fmt.Sprint(failed.Severity, failed.Code, failed.Message, failed.Position)
	} else if err != nil {
		text += err.Error()
	}
	return text + string(conn.TxStatus())
}
