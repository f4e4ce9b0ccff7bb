package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/pool"
)

func TestClientLimits(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.Pools = []proxy.PoolRule{
			{Database: "app", Servers: pool.Limits{Max: 5}, DatabaseClients: 2},
			{User: "postgres", Servers: pool.Limits{Max: 5}, UserClients: 1},
		}
	})
	ctx := testContext(t)
	tests := []struct{ user, password, database, message string }{
		{"app", "secret", "app", `database "app"`}, {"postgres", "super", "postgres", `user "postgres"`},
	}
	for _, tt := range tests {
		var conns []*pgx.Conn
		for {
			conn, err := pgx.Connect(ctx, s.url(tt.user, tt.password, tt.database))
			if err != nil {
				if sqlstate(err) != "53300" || !strings.Contains(err.Error(), tt.message) {
					t.Errorf("refused with %v, want 53300 that names %s", err, tt.message)
				}
				break
			}
			if conns = append(conns, conn); len(conns) > 2 {
				t.Fatal("no limit")
			}
		}
		if _, users := s.server.Clients(); users[tt.user] != len(conns) {
			t.Errorf("%d clients of %s are counted, want %d", users[tt.user], tt.user, len(conns))
		}
		for _, conn := range conns {
			_ = conn.Close(ctx)
		}
		eventually(t, "the limit to be free again", func() bool { _, users := s.server.Clients(); return users[tt.user] == 0 })
		conn, err := pgx.Connect(ctx, s.url(tt.user, tt.password, tt.database))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(ctx)
	}
}

// Six users share two connections, and PostgreSQL itself allows one of them a single one: everybody is served and nobody
// sees an error.
func TestServerLimits(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolNodeMax = 2 })
	ctx := testContext(t)
	var work sync.WaitGroup
	for i := range 6 {
		user := fmt.Sprint("user", i)
		s.pg.exec(t, "create role "+user+" login password 'secret' connection limit 1")
		for range 3 {
			conn, err := pgx.Connect(ctx, s.url(user, "secret", "app"))
			if err != nil {
				t.Fatal(err)
			}
			work.Go(func() {
				defer func() { _ = conn.Close(ctx) }()
				for range 10 {
					if _, err := conn.Exec(ctx, "select pg_sleep(0.001)"); err != nil {
						t.Errorf("%s: %v", user, err)
						return
					}
				}
			})
		}
	}
	work.Wait()
	if n := s.server.PoolNodes()[0]; n.Open > 2 || n.Evicted == 0 {
		t.Errorf("node: %+v, want at most 2 open, and some closed for others", n)
	}
}

// Who logs in after ALTER ROLE through the proxy works with the new default, whatever connection serves it.
func TestAlteredDefaults(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "select 1")
	mustExec(t, conn, "alter role app set work_mem = '7MB'")
	if got := query[string](t, s.connect(t), "show work_mem"); got != "7MB" {
		t.Errorf("work_mem = %s after ALTER ROLE, want 7MB", got)
	}
}

// However many cancel requests are aimed at sessions that share servers with others, they stop no statement of the
// others, and of those aimed at no more than were sent.
func TestCancelStorm(t *testing.T) {
	const sessions, cancels, limit = 40, 10000, 20 * time.Second
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax, c.MaxQueuedCancels = 8, 100 })
	ctx, end := context.WithCancel(testContext(t))
	defer end()
	var aimed, hit [sessions]atomic.Int64
	var statements atomic.Int64
	conns := make([]*pgx.Conn, sessions)
	var busy, storm sync.WaitGroup
	for i := range conns {
		conns[i] = s.connect(t)
	}
	for i, conn := range conns {
		busy.Go(func() {
			for ctx.Err() == nil {
				var got int
				err := conn.QueryRow(testContext(t), "select $1::int from pg_sleep(0.001)", i).Scan(&got)
				statements.Add(1)
				switch {
				case sqlstate(err) == "57014":
					hit[i].Add(1)
				case err != nil:
					t.Errorf("session %d: %v", i, err)
					return
				case got != i:
					t.Errorf("session %d got the answer of session %d", i, got)
					return
				}
			}
		})
	}
	var sent atomic.Int64
	until := time.Now().Add(limit)
	for range 4 {
		storm.Go(func() {
			for sent.Add(1) <= cancels && time.Now().Before(until) {
				i := rand.N(sessions/2) * 2 // the odd ones are bystanders
				aimed[i].Add(1)
				if err := conns[i].PgConn().CancelRequest(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("cancel: %v", err)
					return
				}
			}
		})
	}
	storm.Wait()
	end()
	busy.Wait()
	var hits int64
	for i := range sessions {
		hits += hit[i].Load()
		if hit[i].Load() > aimed[i].Load() {
			t.Errorf("session %d: %d statements were stopped by %d cancel requests", i, hit[i].Load(), aimed[i].Load())
		}
	}
	if hits == 0 {
		t.Error("no cancel request struck")
	}
	t.Logf("%d cancel requests stopped %d of %d statements", sent.Load(), hits, statements.Load())
}
