package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// reading is one session that is told the same on PostgreSQL and through the proxy, with what it heard.
type reading struct {
	t     *testing.T
	conn  *pgx.Conn
	hop   func(f func()) // runs f where another server connection has to be used
	heard []string
}

func (r *reading) note(format string, args ...any) {
	r.heard = append(r.heard, fmt.Sprintf(format, args...))
}

func (r *reading) say(sql string) { r.note("%s: %s", sql, tags(r.t, r.conn, sql)) }

func (r *reading) ask(sql string) { r.note("%s: %s", sql, value(r.t, r.conn, sql)) }

func (r *reading) prepare(name, sql string) {
	_, err := r.conn.PgConn().Prepare(testContext(r.t), name, sql, nil)
	r.note("prepare %s: %s", sql, sqlstate(err))
}

func (r *reading) run(name string, values ...string) {
	var bound [][]byte
	for _, v := range values {
		bound = append(bound, []byte(v))
	}
	result := r.conn.PgConn().ExecPrepared(testContext(r.t), name, bound, nil, nil).Read()
	r.note("%s: %q %s", name, result.Rows, sqlstate(result.Err))
}

// pipeline sends each statement by itself, with one Sync for all; one with a name is prepared.
func (r *reading) pipeline(statements ...[2]string) {
	p := r.conn.PgConn().StartPipeline(testContext(r.t))
	for _, s := range statements {
		if s[0] != "" {
			p.SendPrepare(s[0], s[1], nil)
			p.SendQueryPrepared(s[0], nil, nil, nil)
		} else {
			p.SendQueryParams(s[1], nil, nil, nil, nil)
		}
	}
	if err := p.Sync(); err != nil {
		r.t.Fatal(err)
	}
	for {
		results, err := p.GetResults()
		if err != nil {
			r.note("pipeline: %s", sqlstate(err))
			break
		}
		if _, ended := results.(*pgconn.PipelineSync); ended {
			break
		}
		if reader, ok := results.(*pgconn.ResultReader); ok {
			result := reader.Read()
			r.note("pipeline: %q %s %s", result.Rows, result.CommandTag, sqlstate(result.Err))
		}
	}
	if err := p.Close(); err != nil {
		r.note("pipeline: %s", sqlstate(err))
	}
}

const (
	readsBackslash = `select 'a\\b', 'c'`
	readsDate      = "select '01/02/2024'::date - '01/01/2024'::date"
	readsPath      = "select * from read"
	readsNull      = "select 1 where null = null"
)

// TestStatementsAreReadAsParsed: a prepared statement is the one that its client has parsed, under the settings of that
// moment, wherever it has to be parsed again and whatever is set by then.
func TestStatementsAreReadAsParsed(t *testing.T) {
	scripts := map[string]func(r *reading){
		"local": func(r *reading) {
			r.say("begin")
			r.say("set local standard_conforming_strings = off")
			r.say("set local datestyle = 'sql, dmy'")
			r.prepare("a", readsBackslash)
			r.prepare("b", readsDate)
			r.say("commit")
			r.prepare("c", readsBackslash)
			r.prepare("d", readsDate)
		},
		"of the session": func(r *reading) {
			r.say("set standard_conforming_strings = off")
			r.say("set datestyle = german")
			r.prepare("a", readsBackslash)
			r.prepare("b", readsDate)
			r.say("set standard_conforming_strings = on")
			r.say("set datestyle = 'sql, mdy'")
			r.prepare("c", readsBackslash)
			r.prepare("d", readsDate)
		},
		"search_path and role": func(r *reading) {
			r.say("set search_path = one")
			r.prepare("a", readsPath)
			r.say("reset search_path")
			r.say("set role reader")
			r.prepare("b", readsPath)
			r.say("reset role")
			r.prepare("c", readsPath)
			r.say("begin")
			r.say("set local role reader")
			r.prepare("d", readsPath)
			r.say("rollback")
		},
		"functions": func(r *reading) {
			r.say("begin")
			r.ask("select set_config('transform_null_equals', 'on', true), set_config('datestyle', 'dmy', true)")
			r.prepare("a", readsNull)
			r.prepare("b", readsDate)
			r.prepare("set", "select set_config('transform_null_equals', $1, true), set_config('datestyle', $2, true)")
			r.run("set", "off", "mdy")
			r.prepare("c", readsNull)
			r.prepare("d", readsDate)
			r.say("commit")
		},
		"back": func(r *reading) {
			r.say("begin")
			r.say("savepoint s")
			r.say("set local datestyle = dmy")
			r.prepare("a", readsDate)
			r.say("rollback to s")
			r.prepare("b", readsDate)
			r.say("set datestyle = dmy")
			r.say("set local datestyle to default")
			r.prepare("c", readsDate)
			r.say("rollback")
			r.prepare("d", readsDate)
		},
		"prepared in SQL": func(r *reading) {
			r.say("set datestyle = dmy")
			r.say("prepare a as " + readsDate)
			r.say("begin; set local datestyle = mdy")
			r.say("prepare b as " + readsDate)
			r.say("set local standard_conforming_strings = off")
			r.say("prepare c as " + readsBackslash)
			r.say("commit")
			r.say("prepare d as " + readsBackslash)
		},
		"in a pipeline": func(r *reading) {
			r.pipeline([2]string{"", "set datestyle = dmy"}, [2]string{"a", readsDate}, [2]string{"", "set datestyle = mdy"}, [2]string{"b", readsDate})
			r.pipeline([2]string{"", "set datestyle = dmy"}, [2]string{"", "select 1/0"}, [2]string{"lost", readsDate})
			r.pipeline([2]string{"", "set datestyle = german"}, [2]string{"lost", "select nothing"}, [2]string{"lost", readsDate})
			r.ask("show datestyle")
			r.prepare("c", readsDate)
			r.pipeline([2]string{"", "begin"}, [2]string{"", "set local datestyle = dmy"}, [2]string{"d", readsDate}, [2]string{"", "commit"}, [2]string{"e", readsDate})
			r.run("e")
		},
	}
	c := newCarried(t)
	ctx := testContext(t)
	c.pg.exec(t, "create role reader", "grant reader to app", "create schema one", "create schema reader", "create schema app",
		"grant usage on schema one, reader, app to public", "create view one.read as select 1 as a", "create view reader.read as select 'x'::text as a",
		"create view app.read as select now()::date - now()::date as a, 2 as b", "grant select on one.read, reader.read, app.read to public")
	direct := func() *pgx.Conn {
		conn, err := pgx.Connect(ctx, strings.Replace(c.pg.direct("app"), "user=postgres", "user=app", 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(ctx) })
		return conn
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			here, there := &reading{t: t, conn: direct(), hop: func(f func()) { f() }}, &reading{t: t, conn: c.connect(t)}
			there.hop = func(f func()) { c.elsewhere(c.blocker, f) }
			for _, r := range []*reading{here, there} {
				script(r)
				run := func() {
					for _, name := range []string{"a", "b", "c", "d"} {
						if strings.Contains(t.Name(), "SQL") {
							r.ask("execute " + name)
						} else {
							r.run(name)
						}
					}
				}
				run()
				r.hop(run)
				r.hop(func() {
					r.say("begin isolation level repeatable read")
					r.say("set local intervalstyle = iso_8601")
					run()
					r.ask("select concat_ws(' ', current_setting('datestyle'), current_setting('intervalstyle'), current_setting('standard_conforming_strings'), current_setting('search_path'), current_user)")
					r.say("commit")
					r.ask("select concat_ws(' ', current_setting('datestyle'), current_setting('intervalstyle'), current_setting('standard_conforming_strings'), current_setting('search_path'), current_user)")
				})
				// Another server connection's cache must not have kept anything wrong for the others.
				other := c.connect(t)
				if r == here {
					other = direct()
				}
				twin := &reading{t: t, conn: other}
				twin.prepare("a", readsBackslash)
				twin.prepare("b", readsDate)
				twin.prepare("c", readsNull)
				twin.prepare("d", readsPath)
				for _, name := range []string{"a", "b", "c", "d"} {
					twin.run(name)
				}
				r.heard = append(r.heard, twin.heard...)
				_ = other.Close(ctx)
			}
			_ = there.conn.Close(ctx)
			for i := range min(len(here.heard), len(there.heard)) {
				if here.heard[i] != there.heard[i] {
					t.Errorf("heard %d: %s\nwant %s", i, there.heard[i], here.heard[i])
				}
			}
			if len(here.heard) != len(there.heard) {
				t.Errorf("heard %d things, want %d", len(there.heard), len(here.heard))
			}
		})
	}
}
