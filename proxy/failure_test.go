package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
	"github.com/walgate/walgate/router"
)

// async runs f and returns a channel with its error.
func async(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func execAsync(t *testing.T, conn *pgx.Conn, sql string) <-chan error {
	t.Helper()
	ctx := testContext(t)
	return async(func() error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

func (s *setup) waitHeld(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " sessions to be held"), func() bool { return s.server.Report().Held == n })
}

func (s *setup) publish(view replication.View, change func(*replication.View)) {
	change(&view)
	_, followed := s.server.Reports().Changed()
	s.view.Publish(view)
	select {
	case <-followed:
	case <-time.After(10 * time.Second): // what is no newer view is not followed
	}
}

func TestServerKilledInTransaction(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	ctx := testContext(t)
	mustExec(t, conn, "create table k (i int)")
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "insert into k values (1)"); err != nil {
		t.Fatal(err)
	}
	s.pg.exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
	if _, err := tx.Exec(ctx, "insert into k values (2)"); sqlstate(err) != "40001" {
		t.Errorf("error = %v, want 40001", err)
	}
	_ = tx.Rollback(ctx)
	if n := query[int](t, conn, "select count(*)::int from k"); n != 0 {
		t.Errorf("%d rows, want none: the session goes on without its transaction", n)
	}
}

func TestIdleSessionsSurviveRestart(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "create table r (i int)")
	mustExec(t, conn, "set timezone = 'Asia/Tokyo'")
	s.pg.stop(t)
	done := execAsync(t, conn, "insert into r values (1)") // held: the server can't be reached
	s.pg.start(t)
	if err := <-done; err != nil {
		t.Errorf("insert during the restart: %v", err)
	}
	if zone := query[string](t, conn, "show timezone"); zone != "Asia/Tokyo" {
		t.Errorf("timezone = %q after the restart", zone)
	}
}

func TestHeldWithoutPrimary(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "create table h (i int)")
	s.publish(s.writable(1), func(v *replication.View) { v.Version, v.Epoch, v.Open = 20, 2, false })
	done := execAsync(t, conn, "insert into h values (1)")
	s.waitHeld(t, 1)
	// A new login of a known role and database needs no server.
	login := async(func() error {
		conn, err := pgx.Connect(testContext(t), s.url("app", "secret", "app"))
		if err == nil {
			_ = conn.Close(testContext(t))
		}
		return err
	})
	if err := <-login; err != nil {
		t.Errorf("login without a primary: %v", err)
	}
	canceled := s.connect(t)
	waiting := execAsync(t, canceled, "insert into h values (3)")
	s.waitHeld(t, 2)
	if err := canceled.PgConn().CancelRequest(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; sqlstate(err) != "57014" {
		t.Errorf("cancelled while held: %v, want 57014", err)
	}
	gone := s.connect(t)
	abandoned := execAsync(t, gone, "insert into h values (4)")
	s.waitHeld(t, 2)
	_ = gone.PgConn().Conn().Close()
	if err := <-abandoned; err == nil {
		t.Error("an insert whose connection was closed succeeded")
	}
	s.waitHeld(t, 1)
	s.allow(2)
	s.publish(s.writable(2), func(v *replication.View) { v.Version = 21 })
	if err := <-done; err != nil {
		t.Errorf("held insert: %v", err)
	}
	if n := query[int](t, conn, "select count(*)::int from h"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// A view that has come with no primary from the start, a gate that opens late.
func TestGate(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	s.gate.Set(replication.Grant{Epoch: 1, Deadline: boottime.Now().Add(-time.Second)})
	done := execAsync(t, conn, "create table g (i int)")
	s.waitHeld(t, 1)
	s.allow(1)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHoldTimeoutAndLimits(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.HoldTimeout, c.MaxHeld = 6*time.Second, 2 }) // longer than a machine may stall
	conns := []*pgx.Conn{s.connect(t), s.connect(t), s.connect(t)}
	s.publish(s.writable(1), func(v *replication.View) { v.Version, v.Open = 11, false })
	first, second := execAsync(t, conns[0], "create table x (i int)"), execAsync(t, conns[1], "create table y (i int)")
	s.waitHeld(t, 2)
	if err := <-execAsync(t, conns[2], "create table z (i int)"); sqlstate(err) != "53300" {
		t.Errorf("the third: %v, want 53300", err)
	}
	for _, done := range []<-chan error{first, second} {
		if err := <-done; sqlstate(err) != "57P03" {
			t.Errorf("after the hold timeout: %v, want 57P03", err)
		}
	}
	s.publish(s.writable(1), func(v *replication.View) { v.Version = 12 })
	for i, conn := range conns {
		mustExec(t, conn, fmt.Sprint("select ", i)) // the sessions go on
	}
}

// A switchover: drained, dry, another epoch; a continuous client sees no error.
func TestDrain(t *testing.T) {
	s := newSetup(t, nil)
	ctx := testContext(t)
	setup := s.connect(t)
	mustExec(t, setup, "create table d (client int, n int)")
	listening := s.connect(t)
	mustExec(t, listening, "listen d") // pinned, but idle: it must not keep the drain from ending
	var stop atomic.Bool
	var group sync.WaitGroup
	var acked atomic.Int64
	for i := range 8 {
		conn := s.connect(t)
		group.Go(func() {
			for n := 0; !stop.Load(); n++ {
				tx, err := conn.Begin(ctx)
				if err == nil {
					_, err = tx.Exec(ctx, "insert into d values ($1, $2)", i, n)
				}
				if err == nil {
					err = tx.Commit(ctx)
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				acked.Add(1)
			}
		})
	}
	for epoch := replication.Epoch(1); epoch < 6; epoch++ {
		before := acked.Load()
		eventually(t, "some commits", func() bool { return acked.Load() > before+50 })
		id := fmt.Sprint("handoff", epoch)
		s.publish(s.writable(epoch), func(v *replication.View) {
			v.Version++
			v.Handoff = replication.Handoff{ID: id, From: "node1", To: "node1", Draining: true}
		})
		report, err := s.server.Reports().Wait(ctx, func(r proxy.DrainReport) bool { return r.HandoffID == id && r.OpenTx == 0 })
		if err != nil {
			t.Fatalf("not dry: %+v", s.server.Report())
		}
		t.Logf("%+v", report)
		direct, err := pgx.Connect(ctx, s.pg.direct("app"))
		if err != nil {
			t.Fatal(err)
		}
		if n := query[int](t, direct, "select count(*)::int from pg_stat_activity where usename = 'app' and state <> 'idle'"); n != 0 {
			t.Errorf("%d backends are busy although the proxy says that it is dry", n)
		}
		_ = direct.Close(ctx)
		s.allow(epoch + 1)
		s.view.Publish(s.writable(epoch + 1))
	}
	before := acked.Load()
	eventually(t, "some commits", func() bool { return acked.Load() > before+50 })
	stop.Store(true)
	group.Wait()
	if n := query[int64](t, setup, "select count(*) from d"); n != acked.Load() {
		t.Errorf("%d rows, %d acknowledged", n, acked.Load())
	}
}

// Transactions that do not end in time are ended with 57P01 or 40001, and the proxy is dry.
func TestDrainCancelsOpen(t *testing.T) {
	s := newSetup(t, nil)
	ctx := testContext(t)
	conn := s.connect(t)
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	s.publish(s.writable(1), func(v *replication.View) { v.Version, v.Handoff = 11, replication.Handoff{ID: "h", Draining: true} })
	eventually(t, "the report", func() bool { r := s.server.Report(); return r.HandoffID == "h" && r.OpenTx == 1 })
	s.publish(s.writable(1), func(v *replication.View) {
		v.Version, v.Handoff = 12, replication.Handoff{ID: "h", Draining: true, CancelOpen: true}
	})
	if _, err := s.server.Reports().Wait(ctx, func(r proxy.DrainReport) bool { return r.HandoffID == "h" && r.OpenTx == 0 }); err != nil {
		t.Fatalf("not dry: %+v", s.server.Report())
	}
	s.publish(s.writable(1), func(v *replication.View) { v.Version = 13 })
	if _, err := tx.Exec(ctx, "select 2"); sqlstate(err) != "57P01" && sqlstate(err) != "40001" {
		t.Errorf("error = %v, want 57P01", err)
	}
	_ = tx.Rollback(ctx)
	mustExec(t, conn, "select 3")
}

func TestSessionState(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax, c.MaxPrepared = 4, 10 })
	ctx := testContext(t)
	var stop atomic.Bool
	var group sync.WaitGroup
	for range 6 { // others, so that servers change hands
		conn := s.connect(t)
		group.Go(func() {
			for !stop.Load() {
				if _, err := conn.Exec(ctx, "set timezone = 'UTC'; select pg_sleep(0.001)"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer group.Wait()
	defer stop.Store(true)

	conn := s.connect(t, "application_name=state")
	mustExec(t, conn, "set timezone = 'Asia/Tokyo'")
	mustExec(t, conn, "set walgate.target = 'primary'")
	for i := range 50 { // five times what a server may keep
		if _, err := conn.Prepare(ctx, fmt.Sprint("p", i), fmt.Sprintf("select %d + $1::int, current_setting('TimeZone'), current_setting('application_name')", i)); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 4 {
		for i := range 50 {
			var n int
			var zone, name string
			if err := conn.QueryRow(ctx, fmt.Sprint("p", i), round).Scan(&n, &zone, &name); err != nil {
				t.Fatal(err)
			}
			if n != i+round || zone != "Asia/Tokyo" || name != "state" {
				t.Fatalf("p%d: %d %s %s", i, n, zone, name)
			}
		}
	}
	mustExec(t, conn, "create temp table mine (i int)")
	for i := range 20 {
		mustExec(t, conn, "insert into mine values ($1)", i)
	}
	if n := query[int](t, conn, "select count(*)::int from mine"); n != 20 {
		t.Errorf("%d rows in the temporary table", n)
	}
	pinned := ""
	for _, info := range s.server.Sessions() {
		if info.Application == "state" {
			pinned = info.Pinned
		}
	}
	if pinned == "" {
		t.Error("SHOW CLIENTS would not tell why the session is pinned")
	}
}

func TestListen(t *testing.T) {
	s := newSetup(t, nil)
	ctx := testContext(t)
	listener, sender := s.connect(t), s.connect(t)
	mustExec(t, listener, "listen news")
	for i := range 3 {
		mustExec(t, sender, fmt.Sprintf("notify news, '%d'", i))
		n, err := listener.WaitForNotification(ctx)
		if err != nil || n.Payload != fmt.Sprint(i) {
			t.Fatalf("notification %d: %+v, %v", i, n, err)
		}
	}
}

func TestShutdown(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Transactions = router.TransactionsLazy })
	idle, busy, begun := s.connect(t), s.connect(t), s.connect(t)
	ctx := testContext(t)
	tx, err := busy.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	unstarted, err := begun.Begin(ctx) // which no server knows of
	if err != nil {
		t.Fatal(err)
	}
	running := execAsync(t, s.connect(t), "select pg_sleep(0.5)")
	eventually(t, "the statement to run", func() bool { return s.server.Report().OpenTx == 2 })
	go s.stop()
	if err := <-running; err != nil {
		t.Errorf("a statement that was running: %v", err)
	}
	if _, err := tx.Exec(ctx, "select 1"); err != nil {
		t.Errorf("an open transaction was ended at once: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Errorf("commit: %v", err)
	}
	if _, err := unstarted.Exec(ctx, "select 1"); err != nil {
		t.Errorf("a transaction without a statement was ended at once: %v", err)
	}
	if err := unstarted.Commit(ctx); err != nil {
		t.Errorf("commit: %v", err)
	}
	if _, err := idle.Exec(ctx, "select 1"); err == nil {
		t.Error("an idle session goes on after shutdown")
	}
	s.stop()
	if n := len(s.server.Sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestTooManyClients(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.MaxClients = 2 })
	s.connect(t)
	s.connect(t)
	if _, err := pgx.Connect(testContext(t), s.url("app", "secret", "app")); err == nil {
		t.Error("a third client was let in")
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newSetupWith(t, nil, registry)
	conn := s.connect(t)
	mustExec(t, conn, "select 1")
	_, _ = conn.Exec(context.Background(), "select 1/0")
	second, err := pgx.Connect(testContext(t), s.url("postgres", "super", "app")) // beyond MetricPools
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close(context.Background()) })
	mustExec(t, second, "select 1")
	recorder := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.PanicOnError}).
		ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(recorder.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`walgate_proxy_errors_total{sqlstate="22012"} 1`, `walgate_proxy_sessions{state="idle"} 2`,
		`walgate_proxy_server_connections{node="node1",role="primary",state="idle"} 2`, `walgate_proxy_held_sessions 0`,
		`walgate_proxy_turns_total{role="primary"}`, `walgate_proxy_bytes_total{from="clients"}`,
		`walgate_proxy_pool_turn_seconds_count{database="app",node="node1",role="primary",user="app"} 2`,
		`walgate_proxy_pool_transaction_seconds_bucket{database="app",node="node1",role="primary",user="app",le="+Inf"} 2`,
		`walgate_proxy_pool_wait_seconds_bucket{database="app",node="node1",role="primary",user="app",le="0.0001"}`,
		`walgate_proxy_pool_errors_total{database="app",node="node1",role="primary",sqlstate="22012",user="app"} 1`,
		`walgate_proxy_pool_turn_seconds_count{database="other",node="other",role="other",user="other"} 1`,
		`walgate_proxy_routes_total{node="node1",reason="the statement needs the primary",role="primary"}`,
		`walgate_proxy_logins_total 2`, `walgate_proxy_paused{scope="all"} 0`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is missing in\n%s", want, body)
		}
	}
}
