package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
)

// maxRows bounds the answer to one question, so that a strange database can't fill the memory.
const maxRows = 200_000

// read asks one member about a database. When the fingerprint is still the one given, nothing more is asked and changed
// is false.
func (s *Set) read(ctx context.Context, m replication.Member, database, fingerprint string) (a answers, now string, changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	config, err := pgconn.ParseConfig("sslmode=disable application_name=walgate_catalog")
	if err != nil {
		return a, "", false, fmt.Errorf("build config: %w", err)
	}
	config.Host, config.Port = m.Host, uint16(m.Port)
	config.User, config.Password, config.Database = s.cfg.User, s.cfg.Password, database
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return a, "", false, fmt.Errorf("connect to %s: %w", m.Name, err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is lost with it
	// Defaults of the database must not bend the questions, nor slow ones hold up the primary.
	opening := fmt.Sprintf("set search_path = pg_catalog; set default_transaction_isolation = 'repeatable read'; set statement_timeout = %d",
		s.cfg.Timeout.Milliseconds())
	if _, err := conn.Exec(ctx, opening).ReadAll(); err != nil {
		return a, "", false, fmt.Errorf("prepare to ask: %w", err)
	}
	err = ask(ctx, conn, fingerprintQuestion, func(row [][]byte) { now = string(row[0]) })
	if err != nil || now == fingerprint {
		return a, now, false, err
	}
	questions := []struct {
		sql string
		row func(row [][]byte)
	}{
		{functionsQuestion, func(row [][]byte) {
			a.functions = append(a.functions, function{string(row[0]), string(row[1]), isTrue(row[2]), isTrue(row[3]), string(row[4])})
		}},
		{usesQuestion, func(row [][]byte) {
			a.uses = append(a.uses, use{string(row[0]), string(row[1]), string(row[2]), string(row[3])})
		}},
		{columnsQuestion, func(row [][]byte) {
			a.columns = append(a.columns, typeColumns{string(row[0]), string(row[1]), isTrue(row[2]), splitNames(string(row[3]))})
		}},
		{impureQuestion, func(row [][]byte) { a.impure = append(a.impure, string(row[0])) }},
		{expansionsQuestion, func(row [][]byte) {
			a.expansions = append(a.expansions, expansion{string(row[0]), string(row[1]), string(row[2])})
		}},
	}
	for _, q := range questions {
		if err := ask(ctx, conn, q.sql, q.row); err != nil {
			return a, now, false, err
		}
	}
	return a, now, true, nil
}

func isTrue(value []byte) bool { return string(value) == "t" }

func ask(ctx context.Context, conn *pgconn.PgConn, sql string, row func([][]byte)) error {
	result := conn.ExecParams(ctx, sql, nil, nil, nil, nil)
	rows := 0
	for result.NextRow() {
		if rows++; rows <= maxRows {
			row(result.Values())
		}
	}
	if _, err := result.Close(); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if rows > maxRows {
		return fmt.Errorf("ask: more than %d rows", maxRows)
	}
	return nil
}
