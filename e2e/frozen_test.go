package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestFrozenPrimaryAcknowledgesNothing freezes a primary until another one has taken over, and lets it go on, while
// clients that are connected to its PostgreSQL directly, past every proxy, write: nothing that they send after the
// freeze may be acknowledged.
func TestFrozenPrimaryAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 3)
	c := d.awaitHealthy(t)
	old := d.node(t, c.primary())
	f := d.facts(t)
	setup := dial(t, d.direct(f, old))
	do(t, setup, "create table late (key text)")
	type session struct {
		conn      *pgx.Conn
		key, last string // last is what it sends after the freeze
	}
	var sessions []session
	for i := range 12 {
		s := session{conn: dial(t, d.direct(f, old)), key: fmt.Sprintf("late %d", i)}
		do(t, s.conn, "insert into late values ($1)", fmt.Sprintf("early %d", i))
		insert := fmt.Sprintf("insert into late values ('%s')", s.key)
		switch i % 4 {
		case 0:
			s.last = insert
		case 1: // an open transaction of which only the end is missing
			do(t, s.conn, "begin")
			do(t, s.conn, insert)
			s.last = "commit"
		case 2:
			s.last = "begin; " + insert + "; commit"
		case 3: // the wait for standbys hides behind the level of messages
			do(t, s.conn, "set client_min_messages = error")
			s.last = insert
		}
		sessions = append(sessions, s)
	}
	thaw, at := d.freezeNode(t, old.Name), time.Now()
	var wg sync.WaitGroup
	acknowledged := make([]bool, len(sessions))
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	for i, s := range sessions {
		wg.Go(func() {
			_, err := s.conn.PgConn().Exec(ctx, s.last).ReadAll()
			acknowledged[i] = err == nil
		})
	}
	d.awaitOpen(t, c.Epoch)
	// What the new primary acknowledges now must be there when the old one has come back.
	app := dial(t, d.endpoint(t))
	do(t, app, "insert into late values ('through the endpoint')")
	awaitSince(t, at, freeze)
	thaw()
	hammered := d.hammer(t, ctx, f, old)
	wg.Wait()
	for i, s := range sessions {
		if acknowledged[i] {
			t.Errorf("session %d: %q, sent after the freeze, was acknowledged by the old primary", i, s.last)
		}
	}
	healed := d.awaitHealthy(t)
	conn := dial(t, d.direct(f, d.node(t, healed.primary())))
	if n := ask[int](t, conn, "select count(*) from late where key like 'early %' or key = 'through the endpoint'"); n != len(sessions)+1 {
		t.Errorf("%d of %d acknowledged rows are there", n, len(sessions)+1)
	}
	if n := ask[int](t, conn, "select count(*) from late where key like 'late %'"); n != 0 {
		t.Errorf("%d rows that were never acknowledged are there", n)
	}
	if n := ask[int](t, conn, "select count(*) from late where key like 'hammer%'"); n != 0 || hammered > 0 {
		t.Errorf("the old primary acknowledged %d writes to new connections, and %d of them are there", hammered, n)
	}
}

// hammer connects to a PostgreSQL directly and writes, again and again, until it says that it is a standby. It returns
// how many writes were acknowledged.
func (d *Demo) hammer(t *testing.T, ctx context.Context, f facts, n nodeFacts) (acknowledged int) {
	t.Helper()
	tries := 0
	await(t, healLimit, "the old primary to be a standby", func(context.Context) error {
		tries++
		conn, err := pgx.Connect(ctx, d.direct(f, n))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer closeConn(conn)
		_, err = conn.Exec(ctx, "insert into late values ($1)", fmt.Sprintf("hammer %d", tries))
		switch {
		case err == nil:
			acknowledged++
			return fmt.Errorf("write %d was acknowledged", tries)
		case sqlstate(err) == "25006":
			return nil
		}
		return err
	})
	return acknowledged
}
