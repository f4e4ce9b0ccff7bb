package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The table of the writers. It has no unique key on purpose: a row that a proxy sends twice must show.
const (
	createTable = `DROP TABLE IF EXISTS walgate_bench; CREATE TABLE walgate_bench (k bigint NOT NULL, via text NOT NULL)`
	insertRow   = `INSERT INTO walgate_bench (k, via) VALUES ($1, $2)`
	selectRows  = `SELECT k FROM walgate_bench`
	countRows   = `SELECT count(*) FROM walgate_bench`
)

// rowKey numbers rows: 16 bits of writer, 40 bits of its count.
func rowKey(writer int, n int64) int64 { return int64(writer)<<40 | n }

// attempt is one INSERT.
type attempt struct {
	key  int64
	sent time.Time
	done time.Time
	code string // empty: acknowledged; else a SQLSTATE or the word of a broken connection
}

// journal is what writers have done. It is safe for concurrent use.
type journal struct {
	mu       sync.Mutex
	attempts []attempt
	connects map[string]int // errors of connecting, by code
	broken   int            // connections that ended under a writer
	last     time.Time      // newest acknowledgement
}

func (j *journal) add(a attempt, broken bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.attempts = append(j.attempts, a)
	if a.code == "" && a.done.After(j.last) {
		j.last = a.done
	}
	if broken {
		j.broken++
	}
}

func (j *journal) addConnect(code string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.connects == nil {
		j.connects = map[string]int{}
	}
	j.connects[code]++
}

func (j *journal) lastAck() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// take returns what has been written down. The writers must have ended.
func (j *journal) take() ([]attempt, map[string]int, int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.attempts), j.connects, j.broken
}

// writer inserts rows one after the other through one connection.
type writer struct {
	number  int
	via     string
	url     string
	pace    time.Duration
	retry   time.Duration // between errors
	journal *journal
}

// statementLimit bounds one statement: longer than anything that is held.
const statementLimit = 90 * time.Second

// run writes until soft ends; a statement under way may go on until hard does.
func (w *writer) run(soft, hard context.Context) {
	var n int64
	for soft.Err() == nil {
		conn, err := w.connect(hard)
		if err != nil {
			if soft.Err() == nil {
				w.journal.addConnect(errorCode(err))
			}
			_ = pause(soft, w.retry)
			continue
		}
		for soft.Err() == nil && !conn.IsClosed() {
			n++
			if w.insert(hard, conn, n) {
				_ = pause(soft, w.pace)
			} else {
				_ = pause(soft, w.retry)
			}
		}
		closeConn(conn)
	}
}

func (w *writer) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	return pgx.Connect(ctx, w.url)
}

// insert reports whether the row was acknowledged.
func (w *writer) insert(ctx context.Context, conn *pgx.Conn, n int64) bool {
	ctx, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	a := attempt{key: rowKey(w.number, n), sent: time.Now()}
	_, err := conn.Exec(ctx, insertRow, a.key, w.via)
	a.done, a.code = time.Now(), errorCode(err)
	w.journal.add(a, conn.IsClosed())
	return err == nil
}

// closeConn says goodbye, for a second at most.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // the run may be over: it is still owed
	defer cancel()
	_ = conn.Close(ctx)
}

// errorCode returns the SQLSTATE of an error, or a word for one without.
func errorCode(err error) string {
	var server *pgconn.PgError
	var timeout net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &server):
		return server.Code
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	default:
		return "other"
	}
}

// notCommitted tells whether the code promises that the statement has had no effect: every SQLSTATE does, but for those
// that speak of a connection lost or an unknown outcome (class 08, 57P01 to 57P05 and 40003; PostgreSQL documentation,
// "PostgreSQL Error Codes").
func notCommitted(code string) bool {
	return len(code) == 5 && code == strings.ToUpper(code) && !strings.HasPrefix(code, "08") &&
		!strings.HasPrefix(code, "57P0") && code != "40003"
}

// idler is a session that does nothing during the fault, and has something to lose.
type idler struct{ conn *pgx.Conn }

const (
	idleSetting = "7MB"
	idleName    = "walgate_bench_idle"
)

func newIdler(ctx context.Context, url string) (*idler, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET work_mem = '"+idleSetting+"'"); err == nil {
		_, err = conn.Prepare(ctx, idleName, "SELECT $1::int + 1, current_setting('work_mem')")
		if err == nil {
			return &idler{conn: conn}, nil
		}
		closeConn(conn)
		return nil, err
	}
	closeConn(conn)
	return nil, err
}

// check returns nil when the session lives and has kept its state.
func (i *idler) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	var sum int
	var setting string
	if err := i.conn.QueryRow(ctx, idleName, 41).Scan(&sum, &setting); err != nil {
		return err
	}
	if sum != 42 || setting != idleSetting {
		return errors.New("state lost: work_mem is " + setting)
	}
	return nil
}
