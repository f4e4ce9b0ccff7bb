package readtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// client is one connection and the logical sessions on it.
type client struct {
	*run
	random *rand.Rand
	conn   *pgx.Conn
	own    []int         // the logical sessions, which are also their rows
	seen   map[int]sight // by row: no session of the connection may see less again
	token  string        // to be taken over by the next connection
	since  time.Time     // of the first failure in a row; zero: there is none
}

// opLimit bounds one operation: it outlasts any hold.
const opLimit = time.Minute

// try connects if need be, and does one thing.
func (c *client) try(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return err
		}
	}
	err := step(ctx)
	if err == nil && c.Reconnects > 0 && c.random.IntN(c.Reconnects) == 0 {
		err = c.handOver(ctx)
	}
	if err == nil {
		c.since = time.Time{}
	}
	return err
}

// look reads a row of which many are read, so that a step back would be seen.
func (c *client) look(ctx context.Context) error {
	row := c.random.IntN(max(c.Recorded, 1))
	if c.random.IntN(4) == 0 {
		return c.readOnly(ctx, c.own[0])
	}
	return c.read(ctx, c.own[0], row)
}

// step does what a client does that writes, too.
func (c *client) step(ctx context.Context) error {
	session := c.own[c.random.IntN(len(c.own))]
	switch n := c.random.IntN(10); {
	case n < 2:
		return c.writeAndRead(ctx, session)
	case n < 3:
		return c.transaction(ctx, session)
	case n < 4:
		return c.pipeline(ctx, session)
	case n < 5:
		return c.readOnly(ctx, session)
	case n < 7:
		return c.read(ctx, session, session)
	default:
		return c.read(ctx, session, c.other())
	}
}

// other chooses a row that others write; those with a history more often.
func (c *client) other() int {
	if c.Recorded > 0 && c.random.IntN(2) == 0 {
		return c.random.IntN(c.Recorded)
	}
	return c.random.IntN(c.Sessions)
}

func (c *client) connect(ctx context.Context) error {
	text, err := c.Connect(ctx)
	if err != nil {
		return err
	}
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["walgate.consistency"] = c.Level
	if c.Fallback != "" {
		cfg.RuntimeParams["walgate.fallback"] = c.Fallback
	}
	if c.token != "" {
		cfg.RuntimeParams["walgate.token"] = c.token
	}
	if c.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		c.conn = nil
		return err
	}
	if c.token == "" {
		clear(c.seen) // a new session has seen nothing
	}
	c.token = ""
	return nil
}

// handOver leaves the connection; the next one gets its token.
func (c *client) handOver(ctx context.Context) error {
	if err := c.conn.QueryRow(ctx, "show walgate.token").Scan(&c.token); err != nil {
		return err
	}
	c.close()
	return nil
}

func (c *client) close() {
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx) // it may be gone already
	c.conn = nil
}

// failed notes an error, and returns it if there is no hope.
func (c *client) failed(err error) error {
	code := "connection"
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		code = refused.Code
	}
	c.mu.Lock()
	if c.report.Errors == nil {
		c.report.Errors = map[string]int64{}
	}
	c.report.Errors[code]++
	c.mu.Unlock()
	if c.conn != nil && (c.conn.IsClosed() || c.conn.PgConn().TxStatus() != 'I') {
		c.close()
		c.token = ""
	}
	switch {
	case c.since.IsZero():
		c.since = time.Now()
	case time.Since(c.since) > c.Patience:
		return fmt.Errorf("a client fails for longer than %s: %w", c.Patience, err)
	}
	return nil
}

var modes = []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}

func (c *client) mode() pgx.QueryExecMode { return modes[c.random.IntN(len(modes))] }

func (c *client) update() string { return "update " + c.Table + " set v = $2 where id = $1" }

func (c *client) query() string {
	return "select v, pg_is_in_recovery() from " + c.Table + " where id = $1"
}

// next is the value that the session writes next.
func (c *client) next(session int) int64 { return c.sent[session].Add(1) }

// write writes the session's row.
func (c *client) write(ctx context.Context, session int) error {
	value, began := c.next(session), c.now()
	tag, err := c.conn.Exec(ctx, c.update(), c.mode(), session, value)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%d rows were updated", tag.RowsAffected())
	}
	c.wrote(session, value, began, err == nil)
	return err
}

// expect says what a read of the row that begins now has to show.
func (c *client) expect(session, row int) read {
	o := read{session: session, row: row, seen: c.seen[row], acked: c.acked[row].Load()}
	if row == session {
		o.own = o.acked
	}
	o.began = c.now()
	return o
}

// saw judges what a read showed.
func (c *client) saw(o read, value int64, standby bool) {
	o.value, o.standby, o.most = value, standby, c.sent[o.row].Load()
	c.run.saw(o)
	seen := c.seen[o.row]
	seen.anywhere = max(seen.anywhere, value)
	if !standby {
		seen.primary = max(seen.primary, value)
	}
	c.seen[o.row] = seen
	c.left.Add(-1)
}

func (c *client) read(ctx context.Context, session, row int) error {
	o := c.expect(session, row)
	var value int64
	var standby bool
	if err := c.conn.QueryRow(ctx, c.query(), c.mode(), row).Scan(&value, &standby); err != nil {
		return err
	}
	c.saw(o, value, standby)
	return nil
}

// writeAndRead reads at once what it has written, and then something else.
func (c *client) writeAndRead(ctx context.Context, session int) error {
	if err := c.write(ctx, session); err != nil {
		return err
	}
	if err := c.read(ctx, session, session); err != nil {
		return err
	}
	return c.read(ctx, session, c.other())
}

// transaction writes in a transaction block, and reads behind it.
func (c *client) transaction(ctx context.Context, session int) error {
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	value, began := c.next(session), c.now()
	if _, err := tx.Exec(ctx, c.update(), c.mode(), session, value); err != nil {
		_ = tx.Rollback(ctx) // the first error is the one that tells
		return err
	}
	err = tx.Commit(ctx)
	c.wrote(session, value, began, err == nil)
	if err != nil {
		return err
	}
	return c.read(ctx, session, session)
}

// readOnly reads twice in a transaction that may run on a standby.
func (c *client) readOnly(ctx context.Context, session int) error {
	row := c.other()
	first, second := c.expect(session, row), c.expect(session, session)
	tx, err := c.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	for _, o := range []read{first, second} {
		var value int64
		var standby bool
		if err := tx.QueryRow(ctx, c.query(), c.mode(), o.row).Scan(&value, &standby); err != nil {
			_ = tx.Rollback(ctx) // as above
			return err
		}
		c.saw(o, value, standby)
	}
	return tx.Commit(ctx)
}

// pipeline sends a write and the reads behind it, each with its own Sync, before any is answered.
func (c *client) pipeline(ctx context.Context, session int) error {
	value, began := c.next(session), c.now()
	p := c.conn.PgConn().StartPipeline(ctx)
	text := func(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
	p.SendQueryParams(c.update(), [][]byte{text(int64(session)), text(value)}, nil, nil, nil)
	err := p.Sync()
	reads := []read{c.expect(session, session), c.expect(session, c.other()), c.expect(session, session)}
	for _, o := range reads {
		p.SendQueryParams(c.query(), [][]byte{text(int64(o.row))}, nil, nil, nil)
		err = errors.Join(err, p.Sync())
	}
	tag, failed := c.pipelined(p)
	err = errors.Join(err, failed)
	c.wrote(session, value, began, err == nil && tag.affected == "UPDATE 1")
	for i := range reads {
		if err != nil {
			break
		}
		var row pipelineRow
		if row, err = c.pipelined(p); err != nil {
			break
		}
		if i != 1 { // behind a write that has been sent on the same connection
			reads[i].own = max(reads[i].own, value)
		}
		c.saw(reads[i], row.value, row.standby)
	}
	if closed := p.Close(); err == nil {
		err = closed
	}
	return err
}

// pipelineRow is one answer of a pipeline.
type pipelineRow struct {
	affected string
	value    int64
	standby  bool
}

// pipelined takes the answer of one statement and its Sync.
func (c *client) pipelined(p *pgconn.Pipeline) (row pipelineRow, err error) {
	results, err := p.GetResults()
	if err != nil {
		return row, err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return row, fmt.Errorf("a pipeline answers with %T", results)
	}
	result := reader.Read()
	if result.Err != nil {
		return row, result.Err
	}
	row.affected = result.CommandTag.String()
	if len(result.Rows) == 1 {
		row.standby = string(result.Rows[0][1]) == "t"
		if row.value, err = strconv.ParseInt(string(result.Rows[0][0]), 10, 64); err != nil {
			return row, err
		}
	}
	if results, err = p.GetResults(); err != nil {
		return row, err
	}
	if _, ok := results.(*pgconn.PipelineSync); !ok {
		return row, fmt.Errorf("a pipeline answers with %T instead of its Sync", results)
	}
	return row, nil
}
