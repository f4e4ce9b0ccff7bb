package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/secure"
)

// Clients of loops and of goroutines share server connections, which move to whoever has a use for them, in the middle
// of everything: results stay with their clients, and the limit of the pool holds.
func TestServersMoveBetweenDrivers(t *testing.T) {
	if *loops == 0 {
		t.Skip("goroutines alone move nothing")
	}
	for _, count := range []int{1, 3} {
		t.Run(fmt.Sprint(count, " loops"), func(t *testing.T) {
			s := newTLSSetup(t, secure.Allow, func(c *proxy.Config) { c.Loops, c.Pools, c.PoolMax = count, nil, 2 })
			var clients sync.WaitGroup
			failed := make(chan error, 6)
			for n := range cap(failed) {
				mode := "disable"
				if n%2 == 0 {
					mode = "require"
				}
				conn, err := s.try(t, "sslmode="+mode)
				if err != nil {
					t.Fatal(err)
				}
				if encrypted(conn) != (mode == "require") {
					t.Fatalf("sslmode %s: encrypted %v", mode, encrypted(conn))
				}
				clients.Go(func() { failed <- mixedTurns(testContext(t), conn, n, 60) })
			}
			clients.Wait()
			close(failed)
			for err := range failed {
				if err != nil {
					t.Error(err)
				}
			}
			direct, err := pgx.Connect(testContext(t), s.pg.direct("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = direct.Close(testContext(t)) }()
			if n := query[int](t, direct, "select count(*) from pg_stat_activity where usename = 'app' and backend_type = 'client backend'"); n > 2 {
				t.Errorf("%d server connections, the pool has room for 2", n)
			}
		})
	}
}

// mixedTurns runs turns of several kinds and holds that each answer is its own.
func mixedTurns(ctx context.Context, conn *pgx.Conn, client, turns int) error {
	for turn := range turns {
		want := client*turns + turn
		var got, long int
		if err := conn.QueryRow(ctx, "select $1::int, length(repeat('x', $2))", want, 100_000).Scan(&got, &long); err != nil {
			return fmt.Errorf("client %d, turn %d: %w", client, turn, err)
		}
		if got != want || long != 100_000 {
			return fmt.Errorf("client %d, turn %d: %d and %d", client, turn, got, long)
		}
		if turn%5 != 0 {
			continue
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "set local work_mem = '1MB'"); err != nil {
				return err
			}
			var memory string
			var text []byte
			if err := tx.QueryRow(ctx, "select current_setting('work_mem'), repeat($1, 300000)::bytea", string(rune('a'+client))).Scan(&memory, &text); err != nil {
				return err
			}
			if memory != "1MB" || len(text) != 300_000 || bytes.Count(text, text[:1]) != len(text) || text[0] != byte('a'+client) {
				return fmt.Errorf("another's answer: work_mem %s, %d bytes of %q", memory, len(text), text[:1])
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("client %d, turn %d: %w", client, turn, err)
		}
	}
	return nil
}

// A loop that is out of descriptors accepts nobody for a moment, says so, serves those it has, and lets in whoever has
// waited once there are some.
func TestOutOfDescriptors(t *testing.T) {
	if *loops == 0 {
		t.Skip("package net accepts for goroutines")
	}
	said := make(refusals, 1)
	s := newSetupWith(t, nil, prometheus.NewRegistry(), func(d *proxy.Deps) {
		d.Logger = slog.New(slog.NewTextHandler(io.MultiWriter(os.Stderr, said), nil))
	})
	ctx := testContext(t)
	present := s.connect(t)
	mustExec(t, present, "select 1")
	release := takeDescriptors(t)
	late, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)) // with the last one
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-said:
	case <-ctx.Done():
		t.Fatal("nobody says that there are no descriptors")
	}
	mustExec(t, present, "select 1")
	release()
	config, err := pgx.ParseConfig(s.url("app", "secret", "app"))
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return late, nil }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatalf("the client that waited: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	mustExec(t, conn, "select 1")
}

// refusals is told when a connection was not accepted.
type refusals chan struct{}

func (r refusals) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("connection not accepted")) && bytes.Contains(line, []byte("too many open files")) {
		select {
		case r <- struct{}{}:
		default: // once is enough
		}
	}
	return len(line), nil
}

// takeDescriptors leaves this process one free descriptor, until release is called.
func takeDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	var taken []int
	release = sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
		for _, fd := range taken {
			_ = syscall.Close(fd)
		}
	})
	t.Cleanup(release)
	highest, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	taken = append(taken, highest)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(highest) + 100, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	for {
		fd, err := syscall.Dup(0)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, fd)
	}
	last := len(taken) - 1
	_ = syscall.Close(taken[last])
	taken = taken[:last]
	return release
}
