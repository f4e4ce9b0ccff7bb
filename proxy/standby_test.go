package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
	"github.com/walgate/walgate/router"
)

// withStandby adds a real standby as node2 to the view and the board.
func (s *setup) withStandby(t *testing.T) *postgres {
	t.Helper()
	standby := s.pg.startStandby(t)
	view := s.writable(1)
	view.Version++
	view.Members = append(view.Members, replication.Member{Name: "node2", Host: standby.host, Port: standby.port})
	s.view.Publish(view)
	s.publishBoard(true)
	return standby
}

// publishBoard says that both nodes are level, far ahead of any position that a session can ask for.
func (s *setup) publishBoard(reachable bool) {
	now := boottime.Now()
	const far = replication.LSN(1 << 40)
	s.board.Publish(replication.StatusBoard{
		Nodes: map[replication.NodeID]replication.Status{
			"node1": {Node: "node1", Role: replication.RolePrimary, Reachable: true, At: now, Timeline: 1, Received: far, Replayed: far},
			"node2": {
				Node: "node2", Role: replication.RoleStandby, Reachable: reachable, At: now, Incarnation: 1, Timeline: 1,
				Received: far, Replayed: far, Streaming: true,
			},
		},
		Primary: replication.Sample{Epoch: 1, SentAt: now, Flush: far},
	})
}

func TestReadsOnStandby(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.MaxStatusAge, c.Level = time.Hour, router.LevelEventual
		c.Listeners = append(c.Listeners, proxy.Listener{Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetReplica})
	})
	standby := s.withStandby(t)
	eventually(t, "the view to be seen", func() bool { return s.server.Report().Epoch == 1 })
	conn := s.connect(t)
	mustExec(t, conn, "create table onstandby (i int)") // writes go to the primary
	read := "select pg_is_in_recovery() /* walgate: */"
	hinted := "/* walgate: target=replica consistency=eventual */ " + read
	eventually(t, "reads on the standby", func() bool { return query[bool](t, conn, hinted) })
	if query[bool](t, conn, "/* walgate: target=primary */ "+read) {
		t.Error("a read for the primary ran on the standby")
	}
	// A function of the users' own is a read once the catalog has told that it is stable, and no more when it is not.
	const place = "create or replace function my_place() returns bool language sql %s as 'select pg_is_in_recovery()'"
	mustExec(t, conn, fmt.Sprintf(place, "stable"))
	eventually(t, "a stable function on the standby", func() bool { return query[bool](t, conn, "select my_place()") })
	mustExec(t, conn, fmt.Sprintf(place, "volatile"))
	eventually(t, "a volatile function on the primary", func() bool { return !query[bool](t, conn, "select my_place()") })
	tx, err := conn.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(testContext(t), "insert into onstandby values (1)"); err != nil {
		t.Errorf("a write in a transaction: %v", err)
	}
	if err := tx.Commit(testContext(t)); err != nil {
		t.Error(err)
	}
	// The standby goes away: the same read is answered by the primary, before the board knows.
	standby.stop(t)
	if query[bool](t, conn, hinted) {
		t.Error("an answer from a standby that is gone")
	}
	standby.start(t)
	eventually(t, "reads on the standby again", func() bool { return query[bool](t, conn, hinted) })
	// A change of primary elsewhere leaves the standby's connections alone, and reads go on while there is no primary.
	s.publish(s.view.Load(), func(v *replication.View) { v.Version, v.Epoch, v.Open = 30, 2, false })
	if !query[bool](t, conn, hinted) {
		t.Error("reads do not go on without a primary")
	}
	// Promotion: what was a standby is lent as the primary of the new epoch only after it has left recovery.
	s.allow(3)
	s.publish(s.view.Load(), func(v *replication.View) { v.Version, v.Epoch, v.Primary, v.Open = 40, 3, "node2", true })
	done := execAsync(t, conn, "insert into onstandby values (2)")
	direct, err := pgx.Connect(testContext(t), standby.direct("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = direct.Close(testContext(t)) }()
	mustExec(t, direct, "select pg_promote()")
	if err := <-done; err != nil {
		t.Errorf("a write across the promotion: %v", err)
	}
	if n := query[int](t, conn, "/* walgate: target=primary */ select count(*)::int from onstandby"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

// A standby that has not replayed CREATE DATABASE refuses the login; that says nothing of the database.
func TestStandbyDoesNotKnowDatabaseYet(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.MaxStatusAge, c.Level = time.Hour, router.LevelEventual })
	standby := s.withStandby(t)
	direct, err := pgx.Connect(testContext(t), standby.direct("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = direct.Close(testContext(t)) }()
	mustExec(t, direct, "select pg_wal_replay_pause()")
	if s.pg.version(t) < 140000 {
		t.Skip("SKIPPED: PostgreSQL 13 does not tell when replay has paused")
	}
	eventually(t, "replay to pause", func() bool {
		return query[string](t, direct, "select pg_get_wal_replay_pause_state()") == "paused"
	})
	s.pg.exec(t, "create database young owner app")
	ctx := testContext(t)
	for range 3 { // the server connection of the first is idle when the others log in
		conn, err := pgx.Connect(ctx, s.url("app", "secret", "young"))
		if err != nil {
			t.Fatal(err)
		}
		if query[bool](t, conn, "/* walgate: target=replica */ select pg_is_in_recovery()") {
			t.Error("an answer from a standby that can't know the database")
		}
		if err := conn.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, direct, "select pg_wal_replay_resume()")
	conn, err := pgx.Connect(ctx, s.url("app", "secret", "young"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	eventually(t, "reads on the standby", func() bool {
		return query[bool](t, conn, "/* walgate: target=replica */ select pg_is_in_recovery()")
	})
}
