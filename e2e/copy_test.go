package e2e

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

const (
	copyBytes    = 200 << 20
	copyLine     = 1 << 10
	copyRSSLimit = 16 << 20 // how much the sidecar may grow while that much streams through it
	copyRaceRSS  = 96 << 20 // the same for a binary with the race detector, which shadows memory
)

// lines is a reader of size bytes of COPY text: one column, lines of copyLine bytes.
type lines struct {
	line []byte
	left int
	at   int
}

func newLines(size int) *lines {
	line := make([]byte, copyLine)
	for i := range line {
		line[i] = 'a' + byte(i%26)
	}
	line[copyLine-1] = '\n'
	return &lines{line: line, left: size}
}

func (l *lines) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), l.left)], l.line[l.at:])
	l.at, l.left = (l.at+n)%copyLine, l.left-n
	return n, nil
}

// counter counts what is written to it.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }

func testCopy(t *testing.T, d *Demo) {
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create unlogged table bulk (line text)")
	defer do(t, conn, "drop table bulk")
	ctx, cancel := context.WithTimeout(t.Context(), verbLimit)
	defer cancel()
	// A first small round grows what every process grows once.
	if _, err := conn.PgConn().CopyFrom(ctx, newLines(1<<20), "copy bulk from stdin"); err != nil {
		t.Fatalf("copy in: %v", err)
	}
	do(t, conn, "truncate bulk")
	pid := d.facts(t).Sidecar.PID
	before := residentBytes(t, pid)
	peak := watchResident(t, pid)
	started := time.Now()
	tag, err := conn.PgConn().CopyFrom(ctx, newLines(copyBytes), "copy bulk from stdin")
	if err != nil {
		t.Fatalf("copy in: %v", err)
	}
	if tag.RowsAffected() != copyBytes/copyLine {
		t.Errorf("copied %d rows, want %d", tag.RowsAffected(), copyBytes/copyLine)
	}
	in := time.Since(started)
	started = time.Now()
	var got counter
	// Unlogged tables do not exist on standbys: the copy has to end up on the primary, without an error.
	if _, err := conn.PgConn().CopyTo(ctx, &got, "copy bulk to stdout"); err != nil {
		t.Fatalf("copy out: %v", err)
	}
	if got.n != copyBytes {
		t.Errorf("copied %d bytes out, want %d", got.n, copyBytes)
	}
	out, growth := time.Since(started), peak()-before
	t.Logf("%d MB in %s in, %s out; the sidecar grew from %d MB by %.1f MB", copyBytes>>20, in.Round(time.Millisecond),
		out.Round(time.Millisecond), before>>20, float64(growth)/(1<<20))
	limit := int64(copyRSSLimit)
	if raceBuilt {
		limit = copyRaceRSS
	}
	if growth > limit {
		t.Errorf("the sidecar grew by %d bytes, more than %d", growth, limit)
	}
	// A copy that breaks off in the middle leaves a session that works.
	_, err = conn.PgConn().CopyFrom(ctx, io.MultiReader(newLines(64<<10), brokenReader{}), "copy bulk from stdin")
	if err == nil {
		t.Error("a copy whose source broke was a success")
	}
	if n := ask[int](t, conn, "select 1"); n != 1 {
		t.Errorf("after a broken copy select 1 gives %d", n)
	}
	for i := range 2 {
		_, err = conn.PgConn().CopyFrom(ctx, newLines(8<<20), fmt.Sprintf("copy no_such_table_%d from stdin", i))
		if sqlstate(err) != "42P01" {
			t.Errorf("copy into a table that is not there: %v", err)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// watchResident samples the memory of a process until the returned function is called, which tells the most.
func watchResident(t *testing.T, pid int) (peak func() int64) {
	done := make(chan struct{})
	var most int64
	var wg sync.WaitGroup
	wg.Go(func() { // ends when peak is called
		sample := time.NewTicker(20 * time.Millisecond)
		defer sample.Stop()
		for {
			most = max(most, residentBytes(t, pid))
			select {
			case <-sample.C:
			case <-done:
				return
			}
		}
	})
	return sync.OnceValue(func() int64 {
		close(done)
		wg.Wait()
		return most
	})
}
