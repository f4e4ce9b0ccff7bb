package e2e

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy/readtest"
)

// TestConsistency changes the primary again and again under sessions that write and read through every proxy of the
// cluster, and hand their tokens to sessions of other proxies: none of them misses what it was promised.
func TestConsistency(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 3)
	d.awaitHealthy(t)
	setup := dial(t, d.endpoint(t))
	enough := make(chan struct{})
	var loads sync.WaitGroup
	// Strong reads run on standbys only if they may wait for them, as those do that would rather have an error.
	cases := []struct{ level, fallback string }{{"session", ""}, {"strong", "primary"}, {"strong", "error"}}
	reports := make([]*readtest.Report, len(cases))
	for i, c := range cases {
		load := &readtest.Load{
			Connect: func(context.Context) (string, error) { return dsn(d.facts(t), d.anyProxy(t)), nil },
			Level:   c.level, Fallback: c.fallback, Table: "seen_at_" + c.level + c.fallback,
			Connections: 16, Readers: 6, Sessions: 320, Recorded: 10, Reads: 1 << 40,
			Reconnects: 50, Patience: failoverLimit + sqlLimit, Enough: enough,
		}
		if _, err := setup.Exec(t.Context(), load.Schema(), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		loads.Go(func() { // ends with enough
			var err error
			if reports[i], err = load.Run(t.Context()); err != nil {
				t.Errorf("%s: %v", load.Table, err)
			}
		})
	}
	for _, fault := range []int{0, 1, 0, 1} { // switchover, postmaster killed
		before := d.cluster(t)
		faults[fault].do(t, d, before.primary(), before.Epoch)
		after := d.awaitHealthy(t)
		t.Logf("%s: %s (epoch %d) to %s (epoch %d)", faults[fault].name, before.primary(), before.Epoch, after.primary(), after.Epoch)
	}
	close(enough)
	loads.Wait()
	for i, r := range reports {
		level := cases[i].level
		t.Logf("%v: %s", cases[i], r)
		if r.Stale.Count+r.Backward.Count+r.Invented.Count > 0 {
			t.Errorf("%s: stale %v, backward %v, invented %v", level, r.Stale.First, r.Backward.First, r.Invented.First)
		}
		if level == "strong" {
			if ok, why := readtest.Strong(r.History, time.Minute); !ok || r.Old.Count > 0 {
				t.Errorf("strong: the history is %s; old %v", why, r.Old.First)
			}
		}
		if r.Standby == 0 && cases[i].fallback != "primary" {
			t.Errorf("%v: no read ran on a standby: nothing was tested", cases[i])
		}
		if r.Reads < 500 || r.Writes < 100 {
			t.Errorf("%s: too little was done: %s", level, r)
		}
	}
}

// anyProxy is the address of one of the cluster's proxies.
func (d *Demo) anyProxy(t testing.TB) string {
	f := d.facts(t)
	if n := rand.IntN(len(f.Nodes) + 1); n < len(f.Nodes) {
		return f.Nodes[n].Proxy
	}
	return f.Sidecar.Addr
}

// testTokens hands what a session of one proxy has written to a session of another.
func testTokens(t *testing.T, d *Demo) {
	f := d.facts(t)
	writer := dial(t, d.endpoint(t))
	do(t, writer, "create table handed (id int primary key, n int)")
	do(t, writer, "insert into handed values (1, 0)")
	p, standby := d.places(t), 0
	for i, node := range f.Nodes {
		reader := dial(t, dsn(f, node.Proxy))
		for j := range 100 {
			n := 100*i + j + 1
			do(t, writer, "update handed set n = $1 where id = 1", n)
			token := ask[string](t, writer, "show walgate.token")
			how := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}[n%3]
			query := "select n, inet_server_port() from handed where id = 1"
			if n%4 == 0 {
				query = "/* walgate: token=" + token + " */ " + query
			} else if _, err := reader.Exec(t.Context(), "set walgate.token = '"+token+"'", how); err != nil {
				t.Fatal(err)
			}
			var got, port int
			if err := reader.QueryRow(t.Context(), query, how).Scan(&got, &port); err != nil {
				t.Fatal(err)
			}
			if got != n {
				t.Fatalf("with the token %s of a session that wrote %d, one of %s reads %d on port %d (primary is %v)", token, n, node.Name, got, port, p.primary)
			}
			if p.standby(port) {
				standby++
			}
		}
	}
	t.Logf("%d of %d reads ran on standbys", standby, 100*len(f.Nodes))
	if standby == 0 {
		t.Error("no read ran on a standby: nothing was tested")
	}
	_, err := writer.Exec(t.Context(), "set walgate.token = 'nonsense'")
	if sqlstate(err) != "22023" {
		t.Errorf("a malformed token: %v", err)
	}
}

// testLag stops replay on every standby: reads go to the primary or fail, as the session wants it, and come back.
func testLag(t *testing.T, d *Demo) {
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create table delayed (n int)")
	p := d.places(t)
	f := d.facts(t)
	var standbys []*pgx.Conn
	for _, n := range f.Nodes {
		if n.Name != d.cluster(t).primary() {
			standbys = append(standbys, dial(t, d.direct(f, n)))
		}
	}
	port := func(ctx context.Context) (port int, err error) {
		err = conn.QueryRow(ctx, "select inet_server_port() from delayed union all select inet_server_port() limit 1").Scan(&port)
		return port, err
	}
	await(t, healLimit, "reads on standbys", func(ctx context.Context) error { return d.onStandby(ctx, p, port) })
	do(t, conn, "set walgate.max_lag = '1B'")
	// Without traffic the lag is zero, however long ago the last write was.
	await(t, healLimit, "a lag of zero", func(ctx context.Context) error { return d.onStandby(ctx, p, port) })
	for _, s := range standbys {
		do(t, s, "select pg_wal_replay_pause()")
		await(t, healLimit, "replay to pause", func(context.Context) error {
			if state := ask[string](t, s, "select pg_get_wal_replay_pause_state()"); state != "paused" {
				return errorString("replay is " + state)
			}
			return nil
		})
	}
	resumed := sync.OnceFunc(func() {
		for _, s := range standbys {
			do(t, s, "select pg_wal_replay_resume()")
		}
	})
	defer resumed()
	do(t, conn, "insert into delayed select generate_series(1, 1000)")
	if at, err := port(t.Context()); err != nil || !p.onPrimary(at) {
		t.Errorf("a read while every standby is behind: port %d, %v", at, err)
	}
	do(t, conn, "set walgate.fallback = 'error'")
	if _, err := port(t.Context()); sqlstate(err) != "57P03" {
		t.Errorf("without the fallback: %v, want 57P03", err)
	}
	do(t, conn, "set walgate.consistency = 'eventual'")
	if at, err := port(t.Context()); err != nil || !p.standby(at) {
		t.Errorf("an eventual read: port %d, %v", at, err)
	}
	do(t, conn, "reset walgate.consistency")
	resumed()
	await(t, healLimit, "reads on standbys again", func(ctx context.Context) error { return d.onStandby(ctx, p, port) })
	do(t, conn, "select n from delayed limit 1")
	var class, node, role, why, level, token, lag, lagBytes string
	if err := conn.QueryRow(t.Context(), "show walgate.route").Scan(&class, &node, &role, &why, &level, &token, &lag, &lagBytes); err != nil {
		t.Fatal(err)
	}
	if class != "read" || role != "standby" || level != "session" || why == "" || node == "" || lagBytes == "" {
		t.Errorf("the route is %q %q %q %q %q %q %q %q", class, node, role, why, level, token, lag, lagBytes)
	}
}

// onStandby reports why a read did not run on a standby.
func (d *Demo) onStandby(ctx context.Context, p places, port func(context.Context) (int, error)) error {
	at, err := port(ctx)
	if err == nil && !p.standby(at) {
		err = errorString("the read ran on the primary")
	}
	return err
}

type errorString string

func (e errorString) Error() string { return string(e) }
