package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
)

// target is where and as whom to log in.
type target struct {
	host     string // a directory: unix socket
	port     int
	role     string
	password string
	settings map[string]string // sent at login
}

// dial logs in, over TLS where the server offers it.
func dial(ctx context.Context, t target) (*pgconn.PgConn, error) {
	mode := "prefer"
	if strings.HasPrefix(t.host, "/") {
		mode = "disable"
	}
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=%s",
		quoteConninfo(t.host), t.port, quoteConninfo(t.role), quoteConninfo(t.password), Superuser, mode))
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	cfg.RuntimeParams, cfg.ValidateConnect = t.settings, nil // nothing from our environment
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL at %s as %s: %w", net.JoinHostPort(t.host, strconv.Itoa(t.port)), t.role, err)
	}
	return conn, nil
}

// local logs in to this instance over its socket, as the internal superuser; while that role is missing (an adopted
// cluster before EnsureRoles), as the bootstrap superuser.
func (i *Instance) local(ctx context.Context) (*pgconn.PgConn, error) {
	t := target{
		host: i.cfg.RunDir, port: i.cfg.Port, role: RoleWalgate, password: i.cfg.Secret.Password(RoleWalgate),
		settings: map[string]string{
			"application_name": "walgate", "search_path": "pg_catalog, pg_temp", "statement_timeout": "0",
			"lock_timeout": "0", "default_transaction_read_only": "off", "client_encoding": "UTF8",
			"synchronous_commit": "local", "DateStyle": "ISO", "idle_session_timeout": "0",
		},
	}
	if bins, err := i.binaries(ctx); err == nil && bins.major < 14 {
		delete(t.settings, "idle_session_timeout")
	}
	conn, err := dial(ctx, t)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "28P01" || refused.Code == "28000") {
		t.role, t.password = Superuser, i.cfg.SuperuserPassword
		if fallback, ferr := dial(ctx, t); ferr == nil {
			return fallback, nil
		}
	}
	return conn, err
}

// rows runs a statement with text parameters and returns the rows as text; NULL is the empty text.
func rows(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for n, a := range args {
		values[n] = []byte(a)
	}
	result := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	table := make([][]string, len(result.Rows))
	for n, row := range result.Rows {
		table[n] = make([]string, len(row))
		for m, field := range row {
			table[n][m] = string(field)
		}
	}
	return table, nil
}

// one runs a statement that returns one value.
func one(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) (string, error) {
	table, err := rows(ctx, conn, sql, args...)
	if err != nil {
		return "", err
	}
	if len(table) != 1 || len(table[0]) != 1 {
		return "", fmt.Errorf("%d rows where one value was expected", len(table))
	}
	return table[0][0], nil
}

// execute runs statements, without parameters, in one implicit transaction.
func execute(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}

// with runs f on a connection of its own.
func (i *Instance) with(ctx context.Context, f func(*pgconn.PgConn) error) error {
	conn, err := i.local(ctx)
	if err != nil {
		return err
	}
	err = f(conn)
	// A polite end; when ctx has ended the socket is closed all the same.
	if cerr := conn.Close(ctx); err == nil && ctx.Err() == nil && cerr != nil {
		err = fmt.Errorf("end session: %w", cerr)
	}
	return err
}

// simple runs a command of the replication protocol and returns its only row.
func simple(ctx context.Context, conn *pgconn.PgConn, command string) ([]string, error) {
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, fmt.Errorf("%d results where one row was expected", len(results))
	}
	var row []string
	for _, field := range results[0].Rows[0] {
		row = append(row, string(field))
	}
	return row, nil
}

// errShort explains a row that is too short.
func errShort(row []string, want int) error {
	if len(row) >= want {
		return nil
	}
	return fmt.Errorf("%d fields in the answer", len(row))
}

func parseTimeline(text string) (replication.Timeline, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("timeline %q: %w", text, err)
	}
	return replication.Timeline(n), nil
}

func parseHistory(text string) (replication.History, error) {
	return replication.ParseHistory([]byte(text))
}
