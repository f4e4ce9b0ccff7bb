package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/catalog"
	"github.com/walgate/walgate/router"
	"github.com/walgate/walgate/router/corpus"
)

// court judges verdicts by what a real primary and its standby, both at the same position, say.
type court struct {
	t                *testing.T
	s                *setup
	primary, standby *pgconn.PgConn
	onStandby        *postgres
	catalog          *router.Catalog
}

// newCourt makes both servers with the corpus' schema in the database app.
func newCourt(t *testing.T) *court {
	s := newSetup(t, func(c *proxy.Config) { c.MaxStatusAge, c.Level = time.Hour, router.LevelEventual })
	if version := s.pg.version(t); version < 140000 {
		t.Skip("SKIPPED: the corpus needs PostgreSQL 14, this is ", version)
	}
	s.pg.exec(t, "alter system set autovacuum = off", "alter system set max_prepared_transactions = 0", "select pg_reload_conf()",
		"alter role app superuser")
	c := &court{t: t, s: s}
	c.primary = c.open(s.pg)
	schema, err := corpus.Schema()
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{schema, "analyze"} {
		if _, err := c.primary.Exec(testContext(t), sql).ReadAll(); err != nil {
			t.Fatalf("schema: %v", err)
		}
	}
	c.onStandby = s.withStandby(t)
	c.standby = c.open(c.onStandby)
	c.await()
	c.catalog = c.read()
	return c
}

func (c *court) open(p *postgres) *pgconn.PgConn {
	c.t.Helper()
	conn, err := pgconn.Connect(testContext(c.t), strings.Replace(p.direct("app"), "user=postgres", "user=app", 1))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// read asks the primary what routing must know, as a server does.
func (c *court) read() *router.Catalog {
	c.t.Helper()
	set, err := catalog.New(catalog.Config{
		User: "walgate_monitor", Password: "monitor", Refresh: time.Hour, Idle: 2 * time.Hour, Gap: time.Millisecond,
		Timeout: time.Minute, MaxDatabases: 1,
	}, c.s.view, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(c.t))
	done := make(chan struct{})
	go func() { set.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	entry := set.Database("app")
	var known *router.Catalog
	eventually(c.t, "the catalog", func() bool {
		known = entry.Load()
		return router.Classify([]byte("select * from customers"), router.Options{Catalog: known}).Kind == router.Read
	})
	return known
}

// await waits until the standby has replayed all that the primary has written.
func (c *court) await() {
	c.t.Helper()
	end := c.ask(c.primary, "select pg_current_wal_insert_lsn()")
	c.ask(c.primary, "select pg_switch_wal()") // so that it is flushed
	eventually(c.t, "the standby to catch up", func() bool {
		return c.ask(c.standby, "select pg_last_wal_replay_lsn() >= '"+end+"'") == "t"
	})
}

func (c *court) ask(conn *pgconn.PgConn, sql string) string {
	c.t.Helper()
	o := run(conn, sql)
	if o.code != "" || len(o.rows) == 0 {
		c.t.Fatalf("%s: %+v", sql, o)
	}
	return o.rows[0]
}

// outcome is all that a client sees of a query string.
type outcome struct {
	rows    []string // of all results, one after the other
	tags    []string
	columns []string
	code    string
	message string
	copied  string
}

// run sends a query string by the simple protocol.
func run(conn *pgconn.PgConn, sql string) (o outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	switch word := strings.ToLower(strings.TrimSpace(sql)); {
	case strings.HasPrefix(word, "copy") && strings.Contains(word, "stdout"):
		var out bytes.Buffer
		var tag pgconn.CommandTag
		tag, err = conn.CopyTo(ctx, &out, sql)
		o.copied, o.tags = out.String(), []string{tag.String()}
	case strings.HasPrefix(word, "copy") && strings.Contains(word, "stdin"):
		_, err = conn.CopyFrom(ctx, strings.NewReader(""), sql)
	default:
		results := conn.Exec(ctx, sql)
		for results.NextResult() {
			r := results.ResultReader()
			for _, f := range r.FieldDescriptions() {
				o.columns = append(o.columns, fmt.Sprintf("%s:%d", f.Name, f.DataTypeOID))
			}
			for r.NextRow() {
				o.rows = append(o.rows, string(bytes.Join(r.Values(), []byte("|"))))
			}
			tag, _ := r.Close()
			o.tags = append(o.tags, tag.String())
		}
		err = results.Close()
	}
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		o.code, o.message = refused.Code, refused.Message
	case err != nil:
		o.code, o.message = "?", err.Error()
	}
	return o
}

// difference tells how two outcomes differ; "" when they don't.
func (o outcome) difference(other outcome) string {
	switch {
	case o.code != other.code || o.message != other.message:
		return fmt.Sprintf("%s %q against %s %q", o.code, o.message, other.code, other.message)
	case !slices.Equal(o.tags, other.tags):
		return fmt.Sprintf("tags %q against %q", o.tags, other.tags)
	case !slices.Equal(o.columns, other.columns):
		return fmt.Sprintf("columns %q against %q", o.columns, other.columns)
	case !slices.Equal(o.rows, other.rows):
		for i := range o.rows {
			if o.rows[i] != other.rows[i] {
				return fmt.Sprintf("row %d %q against %q", i, o.rows[i], other.rows[i])
			}
		}
	case o.copied != other.copied:
		return "copied data differ"
	}
	return ""
}

// settle puts the rows into an order of their own where the plan has chosen it.
func (o *outcome) settle(sql string) {
	if !strings.Contains(strings.ToLower(sql), "order by") {
		slices.Sort(o.rows)
	}
}

// traces is what a statement may leave behind on a connection, and (on the primary) in the cluster.
const traces = `select concat_ws(' ', 'advisory locks', (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
  'cursors', (select count(*) from pg_cursors), 'statements', (select count(*) from pg_prepared_statements),
  'channels', (select count(*) from pg_listening_channels()), 'temporary', pg_my_temp_schema(),
  'settings', (select string_agg(name || '=' || setting, ',') from pg_settings where source = 'session'),
  'custom', current_setting('my.x', true), current_setting('my.y', true)%s)`

// judge runs a statement that is called a read on both servers; it tells what is wrong with that.
func (c *court) judge(sql string) string {
	onPrimary := fmt.Sprintf(traces, ", 'transactions', pg_snapshot_xmax(pg_current_snapshot())")
	onStandby := fmt.Sprintf(traces, "")
	before, beforeStandby := c.ask(c.primary, onPrimary), c.ask(c.standby, onStandby)
	want := run(c.primary, sql)
	got := run(c.standby, sql)
	if c.standby.IsClosed() || c.primary.IsClosed() {
		c.t.Fatalf("%s: a connection was closed: %+v", sql, got)
	}
	switch after, afterStandby := c.ask(c.primary, onPrimary), c.ask(c.standby, onStandby); {
	case after != before:
		return fmt.Sprintf("it leaves traces on the primary: %s, then %s", before, after)
	case afterStandby != beforeStandby:
		return fmt.Sprintf("it leaves traces on the standby: %s, then %s", beforeStandby, afterStandby)
	}
	want.settle(sql)
	got.settle(sql)
	diff := want.difference(got)
	if diff == "" {
		return ""
	}
	// What changes from one run to the next on one server is no business of routing. Chance may repeat itself.
	for range 20 {
		again := run(c.primary, sql)
		again.settle(sql)
		if want.code == "" && got.code == "" && len(want.rows) == len(got.rows) && again.difference(want) != "" {
			return ""
		}
	}
	return "primary and standby differ: " + diff
}

// reads reports whether a session would send the text to a standby.
func (c *court) reads(sql string) bool {
	v := router.Classify([]byte(sql), router.Options{Catalog: c.catalog})
	return v.Kind == router.Read && !v.Flags.Has(router.Pins)
}

// TestCorpus judges the corpus, all that PostgreSQL itself brings, what psql asks, and variations of all that.
func TestCorpus(t *testing.T) {
	c := newCourt(t)
	statements, err := corpus.Statements()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("statements", func(t *testing.T) { c.testStatements(t, statements) })
	t.Run("functions", c.testBuiltins)
	t.Run("relations", c.testRelations)
	t.Run("settings", c.testSettings)
	queries := c.psqlQueries(t)
	t.Run("psql", func(t *testing.T) { c.testPsql(t, queries) })
	t.Run("endpoint", func(t *testing.T) { c.testEndpoint(t, append(statements, asStatements(queries)...)) })
	t.Run("mutants", func(t *testing.T) { c.testMutants(t, statements) })
}

func (c *court) testStatements(t *testing.T, statements []corpus.Statement) {
	reads, offloaded := 0, 0
	for _, s := range statements {
		read := c.reads(s.Text)
		if s.Want == corpus.Read {
			if reads++; read {
				offloaded++
			} else {
				t.Errorf("%s: %q needlessly runs on the primary", s.Place, s.Text)
			}
		}
		if read && (s.Want == corpus.Primary || s.Want == corpus.Danger) {
			t.Errorf("%s: %q must run on the primary", s.Place, s.Text)
		}
		if !read || s.Want == corpus.Danger || s.Want == corpus.Shown {
			continue
		}
		if wrong := c.judge(s.Text); wrong != "" {
			t.Errorf("%s: %q: %s", s.Place, s.Text, wrong)
		}
	}
	t.Logf("%d of %d plain reads run on the standby", offloaded, reads)
}

func asStatements(queries []string) (all []corpus.Statement) {
	for _, sql := range queries {
		all = append(all, corpus.Statement{Text: sql, Want: corpus.Either, Place: "psql"})
	}
	return all
}

// testEndpoint sends everything through walgate: answers are those of the primary, reads reach the standby, and nobody
// meets an error that only a standby has.
func (c *court) testEndpoint(t *testing.T, statements []corpus.Statement) {
	for _, sql := range []string{"alter system set log_statement = 'all'", "select pg_reload_conf()"} {
		run(c.standby, sql)
	}
	connect := func() *pgconn.PgConn {
		conn, err := pgconn.Connect(testContext(t), c.s.url("app", "secret", "app"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	conn, writer := connect(), connect() // what writes may leave pins
	eventually(t, "reads on the standby", func() bool {
		return c.ask(conn, "select pg_is_in_recovery(), price(1)") == "t|2" && strings.Contains(c.standbyLog(), "statement: ")
	})
	before := strings.Count(c.standbyLog(), "statement: ")
	reads := 0
	for number, s := range statements {
		switch s.Want {
		case corpus.Danger, corpus.Shown:
			continue
		case corpus.Primary:
			c.testWrite(t, writer, s)
			continue
		case corpus.Read:
			reads++
		}
		want, got := run(c.primary, s.Text), run(conn, s.Text)
		diff := want.difference(got)
		if diff != "" && run(c.primary, s.Text).difference(want) == "" {
			t.Errorf("%s: %q: primary and endpoint differ: %s", s.Place, s.Text, diff)
		}
		if number%4 == 0 && want.copied == "" && len(want.tags) == 1 {
			c.testPrepared(t, conn, s, want)
		}
	}
	onStandby := strings.Count(c.standbyLog(), "statement: ") - before
	if t.Logf("%d of %d plain reads reached the standby", onStandby, reads); onStandby < reads*98/100 {
		t.Errorf("too few reads reached the standby")
	}
}

// testPrepared runs a statement by the extended protocol, twice.
func (c *court) testPrepared(t *testing.T, conn *pgconn.PgConn, s corpus.Statement, want outcome) {
	name := "of " + s.Place
	if _, err := conn.Prepare(testContext(t), name, s.Text, nil); err != nil {
		return // what can't be prepared has failed by the simple protocol too
	}
	for range 2 {
		result := conn.ExecPrepared(testContext(t), name, nil, nil, nil).Read()
		var rows []string
		for _, row := range result.Rows {
			rows = append(rows, string(bytes.Join(row, []byte("|"))))
		}
		if result.Err == nil && (want.code != "" || !slices.Equal(rows, want.rows)) && run(c.primary, s.Text).difference(want) == "" {
			t.Errorf("%s: %q, prepared: %q against %q", s.Place, s.Text, rows, want.rows)
		}
		var refused *pgconn.PgError
		if errors.As(result.Err, &refused) && refused.Code != want.code {
			t.Errorf("%s: %q, prepared: %v against %q", s.Place, s.Text, result.Err, want.code)
		}
	}
	if err := conn.Deallocate(testContext(t), name); err != nil {
		t.Fatal(err)
	}
}

// testWrite runs what only the primary may do; it may fail, but not as on a standby.
func (c *court) testWrite(t *testing.T, conn *pgconn.PgConn, s corpus.Statement) {
	o := run(conn, s.Text)
	if o.code == "?" && conn.IsClosed() {
		t.Fatalf("%s: %q: the connection is gone: %s", s.Place, s.Text, o.message)
	}
	if o.code == "25006" || strings.Contains(o.message, "during recovery") || strings.Contains(o.message, "hot standby") {
		t.Errorf("%s: %q: %s %s", s.Place, s.Text, o.code, o.message)
	}
	for _, sql := range []string{"rollback", "discard all"} {
		if o := run(conn, sql); o.code != "" {
			t.Fatalf("%s after %s: %+v", sql, s.Text, o)
		}
	}
}

func (c *court) standbyLog() string {
	text, err := os.ReadFile(filepath.Join(c.onStandby.dir, "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}
