package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func dsn(f facts, addr string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(f.User, f.Password), Host: addr, Path: "/" + f.Database,
		RawQuery: "sslmode=disable&connect_timeout=40",
	}
	return u.String()
}

// endpoint is the DSN of the sidecar: what an application uses.
func (d *Demo) endpoint(t testing.TB) string {
	t.Helper()
	f := d.facts(t)
	return dsn(f, f.Sidecar.Addr)
}

// direct is the DSN of a node's PostgreSQL, past every proxy.
func (d *Demo) direct(f facts, n nodeFacts) string { return dsn(f, n.Postgres) }

// dial connects, and closes at the end of the test.
func dial(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), lookAgain)
	defer cancel()
	_ = conn.Close(ctx) // a server that is gone is no news here
}

// do runs a statement that has to succeed.
func do(t testing.TB, conn *pgx.Conn, sql string, args ...any) pgconn.CommandTag {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	tag, err := conn.Exec(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag
}

// ask runs a query that has to give one row with one column.
func ask[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	var v T
	if err := conn.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// askOnce connects, asks, and closes.
func askOnce(ctx context.Context, dsn, sql string, into ...any) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer closeConn(conn)
	if err := conn.QueryRow(ctx, sql).Scan(into...); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	return nil
}

// sqlstate is the SQLSTATE of an error from a server, or empty.
func sqlstate(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
