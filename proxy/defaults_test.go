package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestDefaultsOfTheClient: a parameter returns to what the client said of it at its start, in transactions too, and for as
// long as on a connection to PostgreSQL.
func TestDefaultsOfTheClient(t *testing.T) {
	c := newCarried(t)
	c.pg.exec(t, "create schema one", "create role reader", "grant reader to app")
	const show = "select concat_ws('|', current_setting('application_name'), current_setting('search_path'), current_setting('work_mem'), " +
		"current_setting('datestyle'), current_setting('lock_timeout'), current_user)"
	const options = `application_name=mine options='-c search_path=one,public -c work_mem=7MB -c datestyle=sql,dmy'`
	scripts := map[string][]string{
		"local": {"begin", "set local application_name = 'x'", "set local application_name to default", "set local search_path to default",
			"set local work_mem = '8MB'", "set local work_mem to default", "set local lock_timeout = 5", "set local lock_timeout to default", "commit"},
		"local behind others": {"set application_name = 'of the session'", "set search_path = public", "begin", "set local application_name to default",
			"set local search_path to default", "set local datestyle to default", "commit", "reset application_name"},
		"rolled back": {"begin", "savepoint a", "set local application_name = 'x'", "savepoint b", "set local application_name to default",
			"rollback to b", "rollback to a", "set local work_mem to default", "rollback"},
		"savepoint behind": {"begin", "set local work_mem = '9MB'", "savepoint a", "set local work_mem to default", "savepoint b", "set work_mem = '8MB'",
			"rollback to b", "rollback to a", "commit"},
		"of the session": {"begin", "set application_name = 'x'", "set application_name to default", "set work_mem = '9MB'", "reset work_mem", "commit",
			"begin", "set search_path = public", "reset all", "rollback", "begin", "set datestyle = iso", "set datestyle to default", "commit"},
		"over a local one":       {"begin", "set local application_name = 'x'", "reset application_name", "set local work_mem = '9MB'", "set work_mem to default", "commit"},
		"set behind the default": {"begin", "set local application_name to default", "set application_name = 'y'", "commit", "reset application_name"},
		"in one string":          {"begin; set local application_name = 'x'; set local application_name to default", "commit"},
		"no transaction":         {"set local application_name to default", "set application_name = 'x'", "set local application_name to default"},
		"another role":           {"begin", "set local role reader", "set local application_name = 'x'", "set local application_name to default", "commit"},
		"somebody else":          {"set role reader", "begin", "set local session authorization app", "reset all", "commit"},
		"a local role":           {"set role reader", "begin", "set local role none", "reset application_name", "set work_mem to default", "commit"},
		"a failed transaction":   {"begin", "set local application_name to default", "select 1/0", "rollback"},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			direct, err := pgx.Connect(ctx, strings.Replace(c.pg.direct("app"), "user=postgres", "user=app", 1)+" "+options)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = direct.Close(ctx) }()
			here := c.connect(t, options)
			for i := range script {
				for _, sql := range []string{script[i], show} {
					if got, want := tags(t, here, sql), tags(t, direct, sql); got != want {
						t.Errorf("%q, %s: %s, want %s", script[:i+1], sql, got, want)
					}
				}
				if got, want := value(t, here, show), value(t, direct, show); got != want {
					t.Errorf("%q: %s, want %s", script[:i+1], got, want)
				}
			}
			c.elsewhere(c.blocker, func() {
				if got, want := value(t, here, show), value(t, direct, show); got != want {
					t.Errorf("elsewhere: %s, want %s", got, want)
				}
			})
			if got, want := here.PgConn().ParameterStatus("application_name"), direct.PgConn().ParameterStatus("application_name"); got != want {
				t.Errorf("told %s, want %s", got, want)
			}
			_ = here.Close(ctx)
		})
	}
}
