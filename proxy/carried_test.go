package proxy_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

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
