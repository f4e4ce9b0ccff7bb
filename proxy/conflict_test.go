package proxy_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
	"github.com/walgate/walgate/router"
)

// TestRecoveryConflict holds that a read which a standby cancels for a conflict with recovery is answered unseen, by another
// standby as long as there is one and else by the primary.
func TestRecoveryConflict(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.MaxStatusAge, c.Level = time.Hour, router.LevelEventual })
	s.pg.exec(t, "alter system set max_standby_streaming_delay = 0", "alter system set autovacuum = off", "select pg_reload_conf()")
	standbys := map[replication.NodeID]*postgres{"node2": s.pg.startStandby(t), "node3": s.pg.startStandby(t)}
	view := s.writable(1)
	for name, p := range standbys {
		view.Version++
		view.Members = append(view.Members, replication.Member{Name: name, Host: p.host, Port: p.port})
	}
	publish := func(without replication.NodeID) {
		s.publishBoard(true)
		board := s.board.Load()
		level := board.Nodes["node2"]
		for name := range standbys {
			level.Node, level.At, level.Reachable = name, boottime.Now(), name != without
			board.Nodes[name] = level
		}
		s.board.Publish(board)
	}
	publish("")
	s.view.Publish(view)
	eventually(t, "the view to be seen", func() bool { return s.server.Report().Epoch == 1 })
	on, err := pgx.Connect(testContext(t), s.pg.direct("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = on.Close(testContext(t)) }()
	mustExec(t, on, "create table conflict (i int)")
	mustExec(t, on, "grant select on conflict to app")
	count := func(p *postgres, sql string) int {
		c, err := pgx.Connect(testContext(t), p.direct("app"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(testContext(t)) }()
		n := 0
		if err := c.QueryRow(testContext(t), sql).Scan(&n); sqlstate(err) == "40001" {
			return -1 // the look itself was in the way of what is replayed
		} else if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return n
	}

	// The read sleeps for longer than the test where the row is seen, so that only a conflict can end it, and tells where it
	// ran: on the server that answers the row is gone.
	const read = "select count(pg_sleep(600)), inet_server_port() from conflict"
	conn := s.connect(t)
	eventually(t, "reads of the table on a standby", func() bool {
		return query[bool](t, conn, "select count(*) >= 0 and pg_is_in_recovery() from conflict")
	})
	for round, want := range []string{"another standby", "the primary"} {
		mustExec(t, on, "insert into conflict values (1)")
		running := func() (name replication.NodeID) {
			for n, p := range standbys {
				if count(p, "select count(*) from pg_stat_activity where query = '"+read+"' and state = 'active'") > 0 {
					name = n
				}
			}
			return name
		}
		for _, p := range standbys {
			eventually(t, "the row on the standby", func() bool { return count(p, "select count(*)::int from conflict") == 1 })
		}
		type answer struct {
			count, port int
			err         error
		}
		answers := make(chan answer, 1)
		go func() { // ends with the read
			var a answer
			a.err = conn.QueryRow(testContext(t), read, pgx.QueryExecModeSimpleProtocol).Scan(&a.count, &a.port)
			answers <- a
		}()
		eventually(t, "the read to run", func() bool { return running() != "" })
		first := running()
		other := replication.NodeID("node2")
		if first == other {
			other = "node3"
		}
		if round > 0 {
			publish(other) // the other is unreachable now
		}
		mustExec(t, on, "delete from conflict")
		mustExec(t, on, "vacuum conflict")
		a := <-answers
		port := standbys[other].port
		if round > 0 {
			port = s.pg.port
		}
		if a.err != nil || a.count != 0 || a.port != port {
			t.Errorf("round %d: %+v; want 0 rows from %s at port %d (it ran on %s)", round, a, want, port, first)
		}
	}
}
