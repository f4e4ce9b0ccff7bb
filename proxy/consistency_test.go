package proxy_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/readtest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/monitor"
)

// withStandbys adds real standbys, named node2 and so on, and a monitor that keeps the board true.
func (s *setup) withStandbys(t *testing.T, n int) []*postgres {
	t.Helper()
	view := s.writable(1)
	view.Version++
	var standbys []*postgres
	for i := range n {
		standby := s.pg.startStandby(t)
		standbys = append(standbys, standby)
		view.Members = append(view.Members, replication.Member{
			Name: replication.NodeID(fmt.Sprint("node", i+2)), Host: standby.host, Port: standby.port,
		})
	}
	s.pg.exec(t, "grant pg_monitor to walgate_monitor")
	s.monitored(t)
	s.view.Publish(view)
	eventually(t, "the standbys on the board", func() bool {
		board := s.board.Load()
		for _, m := range view.Members[1:] {
			if st := board.Status(m.Name); !st.Streaming || st.Lag != 0 {
				return false
			}
		}
		return s.server.Report().Epoch == 1
	})
	return standbys
}

// monitored starts a monitor with the periods of the defaults.
func (s *setup) monitored(t *testing.T) {
	t.Helper()
	m, err := monitor.New(monitor.Config{
		User: "walgate_monitor", Password: func() (string, error) { return "monitor", nil }, Database: "postgres",
		ConnectTimeout: 5 * time.Second, QueryTimeout: 5 * time.Second,
		ActivePeriod: 10 * time.Millisecond, HastyPeriod: 2 * time.Millisecond, IdlePeriod: 200 * time.Millisecond, ActiveFor: time.Second,
	}, s.view, s.board, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	wake := m.Wake
	s.wake.Store(&wake)
	hasten := m.Hasten
	s.hasten.Store(&hasten)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) }) // ends with the test
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// envReads makes the loads as long as one likes.
const envReads = "WALGATE_CONSISTENCY_READS"

// reads is how many reads a load of the usual length n has.
func reads(t *testing.T, n int64) int64 {
	t.Helper()
	text := os.Getenv(envReads)
	if text == "" {
		return n
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", envReads, err)
	}
	return n
}

// testLoad is a load through the setup's proxy.
func (s *setup) testLoad(level string, n int64) *readtest.Load {
	url := s.url("app", "secret", "app")
	return &readtest.Load{
		Connect: func(context.Context) (string, error) { return url, nil }, Level: level, Table: "rows_" + level,
		Connections: 120, Sessions: 2400, Reads: n, Patience: time.Minute, Recorded: 20,
		Readers: 40, Reconnects: 200,
	}
}

// disturbed runs the load while the replay of the standbys is hindered at random.
func disturbed(t *testing.T, load *readtest.Load, standbys []*postgres) *readtest.Report {
	t.Helper()
	d := &readtest.Disturber{Seed: uint64(time.Now().UnixNano())}
	d.Direct = func(context.Context) (all []string, err error) {
		for _, standby := range standbys {
			all = append(all, standby.direct("postgres"))
		}
		return all, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var disturbing sync.WaitGroup
	disturbing.Go(func() { // ends with the load
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	report, err := load.Run(ctx)
	cancel()
	disturbing.Wait()
	t.Logf("%s (seed %d): %s; disturbances %v", load.Level, d.Seed, report, d.Done)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func show(t *testing.T, what string, a readtest.Anomalies) {
	t.Helper()
	if a.Count > 0 {
		t.Errorf("%d %s reads:", a.Count, what)
	}
	for _, text := range a.First {
		t.Error("  ", text)
	}
}

// Sessions see their own writes and never go back in time; strong reads miss nothing; and the checker is shown to fail
// where nothing is promised.
func TestConsistencyUnderDisturbance(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.MaxLag, c.Wait, c.ReturnAfter = 10*time.Second, 50*time.Millisecond, 100*time.Millisecond
	})
	standbys := s.withStandbys(t, 2)
	for _, level := range []string{"session", "strong", "eventual"} {
		n := reads(t, 20_000)
		switch level {
		case "strong":
			n = reads(t, 10_000) // these wait for the standbys
		case "eventual":
			n = 5_000
		}
		load := s.testLoad(level, n)
		mustExec(t, s.connect(t, "default_query_exec_mode=simple_protocol"), load.Schema())
		report := disturbed(t, load, standbys)
		if report.Standby < report.Reads/20 {
			t.Errorf("%s: only %d of %d reads ran on standbys: nothing was tested", level, report.Standby, report.Reads)
		}
		strong, why := readtest.Strong(report.History, time.Minute)
		if level == "eventual" {
			if report.Stale.Count == 0 || report.Backward.Count == 0 || report.Old.Count == 0 || strong {
				t.Errorf("the checker has found nothing where nothing is promised: %s; history: %s", report, why)
			}
			continue
		}
		show(t, "stale", report.Stale)
		show(t, "backward", report.Backward)
		show(t, "invented", report.Invented)
		if level == "strong" {
			show(t, "old", report.Old)
			if !strong {
				t.Errorf("the history of %d operations is not strong: %s", len(report.History), why)
			}
		}
	}
}

// A commit that waits for a synchronous standby is shown by the asynchronous ones already, and not by the primary. A session
// that has seen it stays with standbys that have it, and would rather wait than go back; only when none is left does the
// primary show it what was before, unless it has asked for an error then.
func TestCommitThatWaitsIsNotUnseen(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.MaxLag, c.ReturnWait = time.Minute, 20*time.Second })
	standbys := s.withStandbys(t, 2)
	conn, writer := s.connect(t), s.connect(t)
	mustExec(t, conn, "create table w (id int primary key, n int); insert into w values (1, 0)")
	s.pg.exec(t, "alter system set synchronous_standby_names = 'absent'", "select pg_reload_conf()")
	released := make(chan struct{})
	release := sync.OnceFunc(func() {
		close(released)
		s.pg.exec(t, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
	})
	var waits atomic.Int64 // what is written now
	var writing sync.WaitGroup
	defer writing.Wait()
	defer release()
	writing.Go(func() { // ends with release
		for {
			if _, err := writer.Exec(context.Background(), "update w set n = $1 where id = 1", waits.Add(1)); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-released:
				return
			default:
			}
		}
	})
	direct, err := pgx.Connect(t.Context(), s.pg.direct("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = direct.Close(context.Background()) }()
	eventually(t, "a commit that waits", func() bool {
		var n int
		err := direct.QueryRow(t.Context(), "select count(*) from pg_stat_activity where wait_event = 'SyncRep'").Scan(&n)
		return err == nil && n == 1
	})
	written := int(waits.Load())
	read := func() (n, port int, standby bool) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "select n, inet_server_port(), pg_is_in_recovery() from w where id = 1").Scan(&n, &port, &standby); err != nil {
			t.Fatal(err)
		}
		return n, port, standby
	}
	var port int
	eventually(t, "the commit on a standby", func() bool { n, at, standby := read(); port = at; return n == written && standby })
	for i := range 2 {
		for range 50 {
			n, at, standby := read()
			if n != written || !standby {
				t.Fatalf("with %d standbys stopped: read %d (on a standby: %v) after %d", i, n, standby, written)
			}
			port = at
		}
		for _, standby := range standbys {
			if standby.port == port {
				standby.stop(t)
			}
		}
	}
	eventually(t, "no standby", func() bool {
		return !s.board.Load().Status("node2").Reachable && !s.board.Load().Status("node3").Reachable
	})
	mustExec(t, conn, "set walgate.fallback = 'error'")
	var n int
	if err := conn.QueryRow(t.Context(), "select n from w where id = 1").Scan(&n); sqlstate(err) != "57P03" {
		t.Errorf("with fallback = error: %d, %v, want 57P03", n, err)
	}
	mustExec(t, conn, "reset walgate.fallback")
	if n, _, standby := read(); n != written-1 || standby {
		t.Errorf("the primary shows %d (on a standby: %v): it used not to show a commit that waits, as the documentation says", n, standby)
	}
	release()
	writing.Wait()
	if n, _, _ := read(); n != written {
		t.Errorf("%d is acknowledged, but read %d", written, n)
	}
}

// A session that has written and then reads without a pause does not stay with the primary, though others write all the
// time and what it reads there is always newer than what is known of the standbys.
func TestReadersReturnToStandbys(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.MaxLag, c.ReturnWait = time.Minute, 10*time.Second })
	s.withStandbys(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, busy := s.connect(t), s.connect(t)
	mustExec(t, conn, "create table w (id int primary key, n int); insert into w values (1, 0), (2, 0)")
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	writing.Go(func() { // ends with the test
		for ctx.Err() == nil {
			if _, err := busy.Exec(ctx, "update w set n = n + 1 where id = 2"); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	const query = "select n, pg_is_in_recovery() from w where id = 1"
	eventually(t, "reads on standbys, once the database is known", func() bool {
		var n int
		var there bool
		return conn.QueryRow(ctx, query).Scan(&n, &there) == nil && there
	})
	const rounds, reads = 20, 20
	standby := 0
	for round := range rounds {
		mustExec(t, conn, fmt.Sprintf("update w set n = %d where id = 1", round))
		for range reads {
			var n int
			var there bool
			if err := conn.QueryRow(ctx, query).Scan(&n, &there); err != nil {
				t.Fatal(err)
			}
			if n != round {
				t.Fatalf("read %d, written %d", n, round)
			}
			if there {
				standby++
			}
		}
	}
	t.Logf("%d of %d reads on standbys", standby, rounds*reads)
	if standby < rounds*reads*3/4 {
		t.Errorf("%d of %d reads on standbys", standby, rounds*reads)
	}
}

// Sessions that read all the time do not stay for good with the standby that was there when they came.
func TestReadersMoveToStandbyThatIsBack(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.MaxLag, c.ReturnAfter = 10*time.Second, 50*time.Millisecond })
	standbys := s.withStandbys(t, 2)
	standbys[1].stop(t)
	eventually(t, "one standby", func() bool { return !s.board.Load().Status("node3").Reachable })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	counts := map[int]int{} // reads by port, since they were last looked at
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range 12 {
		conn := s.connect(t)
		readers.Go(func() { // ends with the test
			for ctx.Err() == nil {
				var port int
				if err := conn.QueryRow(ctx, "select inet_server_port()").Scan(&port); err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				counts[port]++
				mu.Unlock()
			}
		})
	}
	look := func() (there, back int) {
		mu.Lock()
		defer mu.Unlock()
		there, back = counts[standbys[0].port], counts[standbys[1].port]
		if there+back > 1000 {
			clear(counts)
		}
		return there, back
	}
	eventually(t, "reads on the only standby", func() bool { there, back := look(); return there > 1000 && back == 0 })
	standbys[1].start(t)
	eventually(t, "a quarter of the reads on the standby that is back", func() bool {
		there, back := look()
		return there+back > 1000 && back*4 > there+back
	})
}
