package proxy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy"
)

type said = []pgproto3.FrontendMessage

func says(text string) said { return said{&pgproto3.Query{String: text}} }

func prepares(name, text string) said {
	return said{&pgproto3.Parse{Name: name, Query: text}, &pgproto3.Sync{}}
}

func runs(name string) said {
	return said{&pgproto3.Bind{PreparedStatement: name}, &pgproto3.Execute{}, &pgproto3.Sync{}}
}

const whoAmI = "select session_user, current_user, current_setting('role')"

// Conversations that were once answered otherwise than PostgreSQL answers them. The first user is the one who logs in;
// options are those of its startup.
var alike = []struct {
	name, user, options string
	conversation        []said
}{
	{"Parse in a failed transaction of what the server has", "app", "", []said{
		prepares("a", "select 7"), {&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Sync{}},
		says("begin"), says("select 1/0"), prepares("a", "select 7"), runs("a"), says("rollback"), runs("a"), prepares("a", "select 7"), runs("a"),
	}},
	{"Parse in a transaction that fails on the way", "app", "", []said{
		prepares("a", "select 7"), {&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Sync{}}, says("begin"),
		slices.Concat(says("select 1/0"), prepares("a", "select 7")), says("rollback"), runs("a"),
	}},
	{"a name that is taken in a failed transaction", "app", "", []said{
		prepares("a", "select 7"), says("begin"), says("select 1/0"), prepares("a", "select 8"), says("rollback"), runs("a"),
		prepares("a", "selekt"), prepares("a", "select 8"),
	}},
	{"names behind a turn that fails on the way", "app", "", []said{
		slices.Concat(runs("nope"), said{&pgproto3.Parse{Name: "a", Query: "select 1"}, &pgproto3.Sync{}}),
		slices.Concat(said{&pgproto3.Bind{PreparedStatement: "nope"}, &pgproto3.Parse{Name: "b", Query: "select 2"}}, said{&pgproto3.Sync{}}, prepares("b", "select 3"), runs("b")),
		runs("b"),
		slices.Concat(said{&pgproto3.Bind{PreparedStatement: "nope"}, &pgproto3.Close{ObjectType: 'S', Name: "b"}, &pgproto3.Sync{}}, prepares("b", "select 4"), runs("b")),
		slices.Concat(says("prepare c as select 5"), says("execute c"), says("deallocate c"), prepares("c", "select 6"), runs("c")),
	}},
	{"SET LOCAL ROLE", "app", "", []said{
		says("begin; set local role alike; " + whoAmI + "; commit"), says(whoAmI),
		says("begin"), says("set local role alike"), says(whoAmI), says("commit"), says(whoAmI),
		says("begin"), says("select set_config('role', 'alike', true)"), says("end"), says(whoAmI),
	}},
	{"SET SESSION AUTHORIZATION that is taken back", "postgres", "", []said{
		says("set role alike"), says("begin; set session authorization app; rollback"), says(whoAmI),
		says("set role alike"), says("begin"), says("set local session authorization app"), says(whoAmI), says("commit"), says(whoAmI),
		says("set role alike"), says("begin"), says("savepoint a"), says("set session authorization app"), says("rollback to a"), says(whoAmI), says("commit"), says(whoAmI),
		says("set session authorization app"), says(whoAmI), says("set role none"), says(whoAmI), says("reset session authorization"), says(whoAmI),
	}},
	{"RESET in a transaction", "app", "-c work_mem=777kB -c search_path=pg_catalog", []said{
		says("begin"), says("set work_mem = '1MB'"), says("reset work_mem"), says("show work_mem"), says("reset all"), says("show search_path"),
		says("savepoint a"), says("set work_mem = '2MB'"), says("rollback to a"), says("show work_mem"), says("commit"), says("show work_mem"),
	}},
	{"DateStyle in parts", "app", "", []said{
		says("set datestyle = 'sql, dmy'"), says("set datestyle = iso"), says("show datestyle"), says("set datestyle = mdy"), says("show datestyle"),
		says("set datestyle = german"), says("show datestyle"), says("set datestyle = 'postgres, ymd'"), says("set datestyle to us"), says("show datestyle"),
	}},
}

// TestAnswersAlike compares conversations through the proxy with the same past it, while another session of the same
// user and database spoils the only server connection between any two turns.
func TestAnswersAlike(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax = 1 })
	s.pg.exec(t, "create role alike", "grant alike to app")
	for _, tt := range alike {
		t.Run(tt.name, func(t *testing.T) {
			password := map[string]string{"app": "secret", "postgres": "super"}[tt.user]
			dial := func(url string, startup map[string]string) *leakLine {
				l, err := dialLeak(testContext(t), url, startup, leakPatience)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = l.conn.Close() })
				return l
			}
			startup := map[string]string{"options": tt.options}
			direct := dial(strings.Replace(s.pg.direct("app"), "user=postgres", "user="+tt.user, 1), startup)
			proxied := dial(s.url(tt.user, password, "app"), startup)
			spoiler := dial(s.url(tt.user, password, "app"), nil)
			for _, messages := range tt.conversation {
				want, err := direct.exchange(messages...)
				if err != nil {
					t.Fatal(err)
				}
				got, err := proxied.exchange(messages...)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: heard %q, %v; want %q", request(messages[0]), got, err, want)
				}
				if proxied.status != 'I' {
					continue
				}
				if _, err := spoiler.exchange(says("set datestyle = 'german, ymd'; set work_mem = '3MB'; set search_path = public; set role alike")...); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
