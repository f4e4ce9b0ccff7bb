package proxy_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/login"
)

// access makes rules and users from their texts.
func access(t *testing.T, rules, users string) proxy.Access {
	t.Helper()
	parsed, err := hba.Parse("rules", []byte(rules), nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := auth.ParseUsers("users", []byte(users))
	if err != nil {
		t.Fatal(err)
	}
	return proxy.Access{Policy: login.Policy{Rules: parsed}, Users: list}
}

// A changed password counts at once, for the very first login, although the old verifier is cached.
func TestPasswordChange(t *testing.T) {
	s := newSetup(t, nil)
	old := s.connect(t)
	mustExec(t, old, "select 1")
	for i := range 5 {
		password := fmt.Sprint("changed", i)
		s.pg.exec(t, "alter role app password '"+password+"'")
		ctx := testContext(t)
		conn, err := pgx.Connect(ctx, s.url("app", password, "app"))
		if err != nil {
			t.Fatalf("first login with the new password: %v", err)
		}
		mustExec(t, conn, "select 1")
		_ = conn.Close(ctx)
		if _, err := pgx.Connect(ctx, s.url("app", "secret", "app")); sqlstate(err) != "28P01" {
			t.Fatalf("login with the old password: %v, want 28P01", err)
		}
		mustExec(t, old, "select 1") // a session that is in stays in
	}
}

// Passwords change while clients log in and query with the one that is valid at the time: nobody gets an error.
func TestRotationUnderLoad(t *testing.T) {
	// No answer from before a login is good enough: within VerifierRefresh the old password may count.
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax, c.VerifierRefresh = 4, time.Nanosecond })
	var current atomic.Int64 // twice the number of the password, +1 while it is being changed
	password := func(n int64) string { return fmt.Sprint("rotated", n/2) }
	s.pg.exec(t, "alter role app password '"+password(0)+"'")
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var clients sync.WaitGroup
	var logins, queries atomic.Int64
	for range 4 {
		clients.Go(func() { // logs in over and over
			for ctx.Err() == nil {
				before := current.Load()
				conn, err := pgx.Connect(ctx, s.url("app", password(before), "app"))
				if err != nil {
					if ctx.Err() == nil && before%2 == 0 && current.Load() == before {
						t.Errorf("login with password %d, valid all the time: %v", before/2, err)
					}
					continue
				}
				if _, err := conn.Exec(ctx, "select pg_sleep(0.005)"); err != nil && ctx.Err() == nil {
					t.Errorf("query after login: %v", err)
				}
				logins.Add(1)
				_ = conn.Close(ctx)
			}
		})
	}
	long := s.connect(t, "password="+password(0))
	clients.Go(func() { // stays in
		for ctx.Err() == nil {
			if _, err := long.Exec(ctx, "select pg_sleep(0.005)"); err != nil && ctx.Err() == nil {
				t.Errorf("query of a session of the first password: %v", err)
				return
			}
			queries.Add(1)
		}
	})
	for i := range int64(10) {
		from := logins.Load()
		eventually(t, "some logins", func() bool { return logins.Load() >= from+10 })
		current.Add(1)
		s.pg.exec(t, "alter role app password '"+password(2*i+2)+"'")
		current.Add(1)
	}
	from := logins.Load()
	eventually(t, "the last logins", func() bool { return logins.Load() >= from+10 })
	stop()
	clients.Wait()
	t.Logf("%d logins and %d queries during 10 changes", logins.Load(), queries.Load())
}

// Sessions that logged in with the old password use servers that are open, and get a clear error when none is; with
// the new password proved by somebody they go on.
func TestStaleSession(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax = 2 })
	old := s.connect(t)
	mustExec(t, old, "select 1")
	s.pg.exec(t, "alter role app password 'changed'")
	mustExec(t, old, "select 1")
	s.pg.exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
	eventually(t, "the servers to be gone", func() bool {
		_, err := old.Exec(testContext(t), "select 1")
		return sqlstate(err) == "28P01"
	})
	other, err := pgx.Connect(testContext(t), s.url("app", "changed", "app"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close(testContext(t)) }()
	mustExec(t, old, "select 1")
}

// ALTER ROLE through the proxy outdates all servers; if it was the password, sessions go on with those that there are until
// somebody has shown the new one.
func TestPasswordChangeThroughTheProxy(t *testing.T) {
	for _, of := range []struct{ most, limit int }{ // servers of the pool, and what PostgreSQL allows the role
		{1, -1}, {1, 1}, {2, -1}, {20, -1}, // with one for all sessions, with fewer than there are, and with room
	} {
		t.Run(fmt.Sprint(of), func(t *testing.T) {
			s := newSetup(t, func(c *proxy.Config) { c.PoolMax = of.most })
			s.pg.exec(t, fmt.Sprint("alter role app connection limit ", of.limit))
			ctx, stop := context.WithCancel(testContext(t))
			defer stop()
			var sessions sync.WaitGroup
			var queries atomic.Int64
			for range 6 {
				conn := s.connect(t)
				sessions.Go(func() { // ends with ctx, or with an error
					for ctx.Err() == nil {
						if _, err := conn.Exec(ctx, "select pg_sleep(0.002)"); err != nil && ctx.Err() == nil {
							t.Errorf("query of a session that is in: %v", err)
							return
						}
						queries.Add(1)
					}
				})
			}
			more := func() {
				t.Helper()
				from := queries.Load()
				eventually(t, "more queries", func() bool { return queries.Load() > from+200 || t.Failed() })
			}
			more()
			admin, err := pgx.Connect(ctx, s.url("postgres", "super", "app"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = admin.Close(ctx) }()
			mustExec(t, admin, "alter role app password 'changed'")
			more()
			fresh, err := pgx.Connect(ctx, s.url("app", "changed", "app"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = fresh.Close(ctx) }()
			mustExec(t, fresh, "select 1")
			mustExec(t, admin, "alter role app set work_mem = '7MB'") // now that new connections can be opened, all are renewed
			more()
			// Twice within a second is carried out a little later.
			eventually(t, "the new default", func() bool { return query[string](t, fresh, "show work_mem") == "7MB" })
			stop()
			sessions.Wait()
		})
	}
}

// Each method against real PostgreSQL.
func TestMethods(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.Sources = []proxy.Source{proxy.SourceFile, proxy.SourceCluster}
		c.Access = access(t, `
			host all trusted    all trust
			host all lonely     all trust
			host all rejected   all reject
			host all md5user    all md5
			host all scramuser  all md5
			host all clearuser  all password
			hostnossl all clearuser2,clearmd5 all password
			host app app        all scram-sha-256
			host all filed      all scram-sha-256
			host all filedhash  all md5
			host all nobody     all md5
			host all nobody2    10.0.0.0/8 trust
		`, `
			"trusted" "plain text"
			"filed" "in a file"
			"filedhash" "`+auth.MD5Hash("filedhash", "hashed")+`"
		`)
	})
	for _, name := range []string{"rejected", "scramuser", "clearuser", "clearuser2"} {
		s.pg.exec(t, "create role "+name+" login password 'secret'")
	}
	s.pg.exec(t, "create role trusted login password 'plain text'", "create role lonely login password 'x'",
		"create role filed login password 'in a file'",
		`set password_encryption = 'md5'; create role md5user login password 'secret'; create role clearmd5 login password 'secret';
		 create role filedhash login password 'hashed'`)
	// PostgreSQL asks for scram-sha-256 (initdb's --auth-host) and would refuse md5 hashes.
	s.pg.useMD5(t, "md5user", "clearmd5", "filedhash")
	tests := []struct {
		name, user, password, want string
	}{
		{"trust with a stored password", "trusted", "''", ""},
		{"trust without", "lonely", "''", "28000"},
		{"reject", "rejected", "secret", "28000"},
		{"md5", "md5user", "secret", ""},
		{"md5, wrong", "md5user", "wrong", "28P01"},
		{"md5 with a SCRAM verifier", "scramuser", "secret", ""},
		{"md5, unknown role", "nobody", "secret", "28P01"},
		{"password without TLS", "clearuser", "secret", "28000"},
		{"password on a hostnossl rule", "clearuser2", "secret", ""},
		{"password, wrong", "clearuser2", "wrong", "28P01"},
		{"password, empty", "clearuser2", "''", "28P01"},
		{"password of an md5 role", "clearmd5", "secret", ""},
		{"password of an md5 role, wrong", "clearmd5", "wrong", "28P01"},
		{"scram of a password in the file", "filed", "in\\ a\\ file", ""},
		{"scram of a password in the file, wrong", "filed", "wrong", "28P01"},
		{"md5 of a hash in the file", "filedhash", "hashed", ""},
		{"no rule", "nobody2", "secret", "28000"},
		{"no rule for the database", "app", "secret", "28000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := pgx.Connect(testContext(t), s.url(tt.user, tt.password, "postgres"))
			if err == nil {
				defer func() { _ = conn.Close(testContext(t)) }()
				if got := query[string](t, conn, "select current_user::text"); got != tt.user {
					t.Errorf("current_user = %q, want %q", got, tt.user)
				}
			}
			if got := sqlstate(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("error = %v, want SQLSTATE %q", err, tt.want)
			}
		})
	}
}

// A query of the operator's own is a source too, and cannot be tricked by what the client sends.
func TestQuerySource(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.Sources = []proxy.Source{proxy.SourceQuery}
		c.Query = proxy.AuthQuery{
			SQL: "select usename, passwd from lookup.find($1)", User: "asker", Password: "asks", Database: "postgres",
		}
	})
	s.pg.exec(t, "create role asker login password 'asks'", "create schema lookup", "grant usage on schema lookup to asker",
		`create function lookup.find(who text, out usename text, out passwd text) returns setof record language sql security definer
		 set search_path = pg_catalog as 'select rolname, rolpassword from pg_authid where rolname = who and rolname <> ''app2'''`,
		"create role app2 login password 'secret'",
		// What a hostile client would like to be found instead.
		"create schema evil", "create function evil.find(text) returns table (usename text, passwd text) language sql as 'select null::text, null::text'")
	for _, tt := range []struct{ user, options, want string }{
		{"app", "", ""},
		{"app", "options='-c search_path=evil'", ""},
		{"app2", "", "28P01"},
		{"x'; drop role app; --", "", "28P01"},
	} {
		config, err := pgx.ParseConfig(s.url("app", "secret", "app") + " " + tt.options)
		if err != nil {
			t.Fatal(err)
		}
		config.User = tt.user
		conn, err := pgx.ConnectConfig(testContext(t), config)
		if err == nil {
			_ = conn.Close(testContext(t))
		}
		if got := sqlstate(err); got != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s %s: %v, want SQLSTATE %q", tt.user, tt.options, err, tt.want)
		}
	}
}

// New rules hold for new logins; who is in stays in.
func TestNewRules(t *testing.T) {
	s := newSetup(t, nil)
	in := s.connect(t)
	s.server.SetAccess(access(t, "host all all all reject", ""))
	_, err := pgx.Connect(testContext(t), s.url("app", "secret", "app"))
	if sqlstate(err) != "28000" {
		t.Errorf("login under new rules: %v, want 28000", err)
	}
	mustExec(t, in, "select 1")
	s.server.SetAccess(access(t, "host all app 127.0.0.1/32 scram-sha-256", ""))
	mustExec(t, s.connect(t), "select 1")
}
