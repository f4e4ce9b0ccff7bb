package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy"
)

func TestBatches(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "create table b (id int primary key)")
	for _, size := range []int{1, 10, 3000} {
		batch := &pgx.Batch{}
		for i := range size {
			batch.Queue("insert into b values ($1) on conflict do nothing", i)
			batch.Queue("select $1::int, repeat('x', 100)", i)
		}
		results := conn.SendBatch(testContext(t), batch)
		for i := range size {
			if _, err := results.Exec(); err != nil {
				t.Fatal(err)
			}
			var n int
			var x string
			if err := results.QueryRow().Scan(&n, &x); err != nil || n != i || len(x) != 100 {
				t.Fatalf("row %d: %d, %d bytes, %v", i, n, len(x), err)
			}
		}
		if err := results.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// An error in the middle ends its batch, not the session.
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	batch.Queue("select 1/0")
	batch.Queue("select 2")
	if err := conn.SendBatch(testContext(t), batch).Close(); sqlstate(err) != "22012" {
		t.Errorf("error = %v, want 22012", err)
	}
	if n := query[int](t, conn, "select count(*)::int from b"); n != 3000 {
		t.Errorf("count = %d", n)
	}
}

// A pipeline whose requests and answers both exceed every buffer goes through as long as the client does both.
func TestHugePipeline(t *testing.T) {
	s := newSetup(t, nil)
	raw := s.raw(t)
	const turns = 5000
	request := (&pgproto3.Query{String: "select repeat('x', 5000) /* " + strings.Repeat("y", 5000) + " */"})
	message, err := request.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		for range turns {
			if _, err := raw.conn.Write(message); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	bytes := 0
	for ready := 0; ready < turns; {
		m, err := raw.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			ready++
		case *pgproto3.DataRow:
			bytes += len(m.Values[0])
		case *pgproto3.ErrorResponse:
			t.Fatalf("%s %s", m.Code, m.Message)
		}
	}
	if err := <-written; err != nil || bytes != turns*5000 {
		t.Errorf("%d bytes, want %d (%v)", bytes, turns*5000, err)
	}
}

// raw is a logged-in connection without a driver's manners.
type raw struct {
	*pgproto3.Frontend
	conn net.Conn
}

func (s *setup) raw(t *testing.T) raw {
	t.Helper()
	hijacked, err := s.connect(t).PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hijacked.Conn.Close() })
	return raw{hijacked.Frontend, hijacked.Conn}
}

// lines yields n lines of 100 bytes.
type lines struct{ left int64 }

func (l *lines) Read(p []byte) (int, error) {
	const line = "1\tabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrs\n"
	if l.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for l.left > 0 && len(p)-n >= len(line) {
		n += copy(p[n:], line)
		l.left--
	}
	if n == 0 {
		return 0, io.ErrShortBuffer
	}
	return n, nil
}

// counter counts what a COPY yields, and stalls once.
type counter struct {
	bytes int64
	stall <-chan struct{}
}

func (c *counter) Write(p []byte) (int, error) {
	<-c.stall
	c.bytes += int64(len(p))
	return len(p), nil
}

// rss is the resident memory of this process in bytes.
func rss(t *testing.T) int64 {
	t.Helper()
	content, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(content))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func TestCopy(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	megabytes := int64(100)
	if n, err := strconv.ParseInt(os.Getenv("WALGATE_COPY_MB"), 10, 64); err == nil {
		megabytes = n
	}
	rows := megabytes * 1e6 / 100
	mustExec(t, conn, "create unlogged table c (i int, v text)")
	before := rss(t)
	tag, err := conn.PgConn().CopyFrom(testContext(t), &lines{left: rows}, "copy c from stdin")
	if err != nil || tag.RowsAffected() != rows {
		t.Fatalf("copy in: %v, %v; want %d rows", tag, err, rows)
	}
	stall := make(chan struct{})
	go open(stall, 300*time.Millisecond) // by then everything is full of it
	out := &counter{stall: stall}
	tag, err = conn.PgConn().CopyTo(testContext(t), out, "copy c to stdout")
	if err != nil || tag.RowsAffected() != rows || out.bytes != rows*100 {
		t.Fatalf("copy out: %v, %d bytes, %v; want %d rows", tag, out.bytes, err, rows)
	}
	if grown := rss(t) - before; grown > 16<<20 && !raceEnabled {
		t.Errorf("resident memory grew by %d bytes", grown)
	}
	if _, err := conn.PgConn().CopyFrom(testContext(t), strings.NewReader("x\ty\n"), "copy c from stdin"); sqlstate(err) != "22P02" {
		t.Errorf("copy of rubbish: %v, want 22P02", err)
	}
	mustExec(t, conn, "select 1")
}

// open closes the channel after a while.
func open(c chan struct{}, after time.Duration) {
	<-time.After(after)
	close(c)
}

func TestCancel(t *testing.T) {
	s := newSetup(t, nil)
	for protocol, size := range map[string]int{"3.0": 4, "3.2": 32} {
		t.Run("protocol "+protocol, func(t *testing.T) {
			conn := s.connect(t, "min_protocol_version="+protocol+" max_protocol_version="+protocol)
			if key := conn.PgConn().SecretKey(); len(key) != size {
				t.Errorf("a key of %d bytes, want %d", len(key), size)
			}
			s.testCancel(t, conn)
		})
	}
}

func (s *setup) testCancel(t *testing.T, conn *pgx.Conn) {
	mustExec(t, conn, "select 1")
	result := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
		result <- err
	}()
	direct, err := pgx.Connect(testContext(t), s.pg.direct("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = direct.Close(testContext(t)) }()
	sleeping := func() bool {
		return query[int](t, direct, "select count(*)::int from pg_stat_activity where query like '%pg_sleep%' and state = 'active' and pid <> pg_backend_pid()") == 1
	}
	eventually(t, "the statement to run", sleeping)
	// The wrong secret stops nothing.
	thief, err := net.Dial("tcp", conn.PgConn().Conn().RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	bad := &pgproto3.CancelRequest{ProcessID: conn.PgConn().PID(), SecretKey: []byte("nope")}
	message, err := bad.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thief.Write(message); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(thief); err != nil { // the proxy closes it when it is done
		t.Fatal(err)
	}
	_ = thief.Close()
	if !sleeping() {
		t.Fatal("a wrong secret cancelled the statement")
	}
	if err := conn.PgConn().CancelRequest(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-result; sqlstate(err) != "57014" {
		t.Errorf("error = %v, want 57014", err)
	}
	mustExec(t, conn, "select 1")
}

func TestManyClientsFewServers(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax = 5 })
	mustExec(t, s.connect(t), "create table m (client int, n int)")
	const clients, turns = 200, 20
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			ctx := testContext(t)
			conn, err := pgx.Connect(ctx, s.url("app", "secret", "app"))
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			defer func() { _ = conn.Close(ctx) }()
			for n := range turns {
				tx, err := conn.Begin(ctx)
				if err == nil {
					_, err = tx.Exec(ctx, "insert into m values ($1, $2)", i, n)
				}
				if err == nil {
					err = tx.Commit(ctx)
				}
				if err != nil {
					t.Errorf("client %d, turn %d: %v", i, n, err)
					return
				}
			}
		})
	}
	group.Wait()
	conn := s.connect(t)
	if n := query[int](t, conn, "select count(*)::int from m"); n != clients*turns {
		t.Errorf("%d rows, want %d", n, clients*turns)
	}
	for _, p := range s.server.Pools() {
		if p.Open > 5 || p.Waiting != 0 {
			t.Errorf("pool %+v, want at most 5 connections and nobody waiting", p)
		}
	}
}

// Clients that vanish at any moment leave no server connection lent.
func TestVanishingClients(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax = 3 })
	for i, sql := range []string{"select 1", "begin", "select pg_sleep(0.2)", "begin; select 1/0", "copy (select generate_series(1, 1000000)) to stdout"} {
		for range 3 {
			raw := s.raw(t)
			message, err := (&pgproto3.Query{String: sql}).Encode(nil)
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 1 {
				message = append(message, 'Q', 0, 0) // and half a header
			}
			if _, err := raw.conn.Write(message); err != nil {
				t.Fatal(err)
			}
			_ = raw.conn.Close()
		}
	}
	eventually(t, "all servers to come back", func() bool {
		for _, p := range s.server.Pools() {
			if p.Used != 0 || p.Waiting != 0 {
				return false
			}
		}
		return len(s.server.Sessions()) == 0
	})
	mustExec(t, s.connect(t), fmt.Sprint("select ", 1))
}
