package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// writePace is the time between two inserts of one writer: fine enough to feel a pause, and light on the machine.
const writePace = 5 * time.Millisecond

// writer inserts the keys 1, 2, 3 ... through the endpoint, each once, and remembers what it was told of each.
type writer struct {
	id     int
	dsn    string
	acked  []int64          // keys, ascending
	failed map[int64]string // SQLSTATE by key; empty for a lost connection
	texts  []string         // of the first errors
	pause  time.Duration    // the longest wait between two acknowledgements
	lost   int              // connections
}

// writers run until stopped.
type writers struct {
	list []*writer
	stop chan struct{}
	wg   sync.WaitGroup
}

// startWriters makes the table and starts n writers through the endpoint. The table has no unique key, so that a row
// that was written twice shows.
func startWriters(t *testing.T, d *Demo, n int) *writers {
	t.Helper()
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create table if not exists acked (writer int, key bigint, at timestamptz default clock_timestamp())")
	ws := &writers{stop: make(chan struct{})}
	for i := range n {
		w := &writer{id: i, dsn: d.endpoint(t), failed: map[int64]string{}}
		ws.list = append(ws.list, w)
		ws.wg.Go(func() { w.run(ws.stop) })
	}
	t.Cleanup(ws.end)
	return ws
}

// end stops the writers and waits for them.
func (ws *writers) end() {
	select {
	case <-ws.stop:
	default:
		close(ws.stop)
	}
	ws.wg.Wait()
}

func (w *writer) run(stop <-chan struct{}) {
	pace := time.NewTicker(writePace)
	defer pace.Stop()
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			closeConn(conn)
		}
	}()
	last := time.Now()
	for key := int64(1); ; key++ {
		select {
		case <-stop:
			return
		case <-pace.C:
		}
		if conn == nil || conn.IsClosed() {
			if conn = w.connect(stop); conn == nil {
				return
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), sqlLimit)
		_, err := conn.Exec(ctx, "insert into acked (writer, key) values ($1, $2)", w.id, key)
		cancel()
		if err != nil {
			w.failed[key] = sqlstate(err)
			w.note(fmt.Sprintf("key %d: %v", key, err))
			if conn.IsClosed() {
				w.lost++
			}
			continue
		}
		now := time.Now()
		w.pause = max(w.pause, now.Sub(last))
		last = now
		w.acked = append(w.acked, key)
	}
}

// connect tries until it is connected, or until stop.
func (w *writer) connect(stop <-chan struct{}) *pgx.Conn {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), sqlLimit)
		conn, err := pgx.Connect(ctx, w.dsn)
		cancel()
		if err == nil {
			return conn
		}
		w.note(fmt.Sprintf("connect: %v", err))
		select {
		case <-stop:
			return nil
		case <-again.C:
		}
	}
}

func (w *writer) note(text string) {
	if len(w.texts) < 30 {
		w.texts = append(w.texts, time.Now().Format("15:04:05.000 ")+text)
	}
}

// pause is the longest that any writer felt.
func (ws *writers) pause() time.Duration {
	var longest time.Duration
	for _, w := range ws.list {
		longest = max(longest, w.pause)
	}
	return longest
}

// errorTexts are what the writers were told, a few of each.
func (ws *writers) errorTexts() string {
	var all []string
	for _, w := range ws.list {
		for _, text := range w.texts {
			all = append(all, fmt.Sprintf("writer %d: %s", w.id, text))
		}
	}
	return strings.Join(all, "\n")
}

// sure are the SQLSTATEs that say that nothing was committed.
var sure = []string{"40001", "57P03", "57P01", "25006", "08004", "08006", "53300", "57014"}

// verify compares what the writers were told with what the primary holds; writers have to be stopped. A row that was
// acknowledged must be there, once; a row whose error said that it was not committed must not.
func (ws *writers) verify(t *testing.T, d *Demo) {
	t.Helper()
	f := d.facts(t)
	conn := dial(t, d.direct(f, d.node(t, d.cluster(t).primary())))
	ctx, cancel := context.WithTimeout(t.Context(), verbLimit)
	defer cancel()
	rows, err := conn.Query(ctx, "select writer, key, count(*) from acked group by writer, key")
	if err != nil {
		t.Fatalf("read what is there: %v", err)
	}
	there := make([]map[int64]int, len(ws.list))
	for i := range there {
		there[i] = map[int64]int{}
	}
	var id, count int
	var key int64
	_, err = pgx.ForEachRow(rows, []any{&id, &key, &count}, func() error {
		if id >= len(there) {
			return errors.New("a row of no writer")
		}
		there[id][key] = count
		return nil
	})
	if err != nil {
		t.Fatalf("read what is there: %v", err)
	}
	total, states := 0, map[string]int{}
	for i, w := range ws.list {
		total += len(w.acked)
		for _, key := range w.acked {
			if there[i][key] == 0 {
				t.Errorf("LOST: key %d of writer %d was acknowledged and is not there", key, i)
			}
		}
		for key, count := range there[i] {
			if count > 1 {
				t.Errorf("TWICE: key %d of writer %d is there %d times", key, i, count)
			}
		}
		for key, state := range w.failed {
			states[state]++
			if slices.Contains(sure, state) && there[i][key] > 0 {
				t.Errorf("UNTRUE: key %d of writer %d was refused with %s and is there", key, i, state)
			}
		}
	}
	t.Logf("%d rows acknowledged, errors by SQLSTATE: %v, longest pause %s", total, sorted(states), ws.pause().Round(time.Millisecond))
	if texts := ws.errorTexts(); texts != "" && (t.Failed() || testing.Verbose()) {
		t.Logf("errors:\n%s", texts)
	}
}

func sorted(states map[string]int) []string {
	list := make([]string, 0, len(states))
	for _, state := range slices.Sorted(maps.Keys(states)) {
		name := state
		if name == "" {
			name = "connection lost"
		}
		list = append(list, fmt.Sprintf("%s: %d", name, states[state]))
	}
	return list
}

// errors counts what the writers were told that was no success.
func (ws *writers) errors() int {
	n := 0
	for _, w := range ws.list {
		n += len(w.texts)
	}
	return n
}

// idlers are sessions that do nothing while things happen, and must be as they were afterwards.
type idlers struct{ conns []*pgx.Conn }

func startIdlers(t *testing.T, d *Demo, n int) *idlers {
	t.Helper()
	var list idlers
	for i := range n {
		conn := dial(t, d.endpoint(t))
		do(t, conn, fmt.Sprintf("set my.tenant = 'idler %d'", i))
		if _, err := conn.Prepare(t.Context(), "kept", fmt.Sprintf("select $1::int * %d", i)); err != nil {
			t.Fatalf("prepare: %v", err)
		}
		list.conns = append(list.conns, conn)
	}
	return &list
}

// verify uses every idle session: nobody may have lost anything.
func (list *idlers) verify(t *testing.T) {
	t.Helper()
	for i, conn := range list.conns {
		if got, want := ask[string](t, conn, "select current_setting('my.tenant')"), fmt.Sprintf("idler %d", i); got != want {
			t.Errorf("idle session %d: my.tenant is %q, want %q", i, got, want)
		}
		if got := ask[int](t, conn, "kept", 7); got != 7*i {
			t.Errorf("idle session %d: the prepared statement gives %d, want %d", i, got, 7*i)
		}
	}
}
