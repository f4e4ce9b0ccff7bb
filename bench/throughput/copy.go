package throughput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// copyLoad runs one COPY after the other on every client. What comes in is filtered out by the server, so that the table
// stays empty.
func (g *ground) copyLoad(ctx context.Context, e *endpoint, c cell, d time.Duration) (load, error) {
	conns := make([]*pgconn.PgConn, c.clients)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close(ctx) // nothing is lost with it
			}
		}
	}()
	for i := range conns {
		var err error
		if conns[i], err = pgconn.Connect(ctx, g.url(e.address, benchUser, benchDatabase)); err != nil {
			return load{}, fmt.Errorf("connect for COPY: %w", err)
		}
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		all  load
		errs error
	)
	began := time.Now()
	for _, conn := range conns {
		wg.Go(func() { // ends with the duration, or with ctx
			for time.Since(began) < d {
				at := time.Now()
				err := g.copyOnce(ctx, conn, c.work.copying)
				mu.Lock()
				if errs = errors.Join(errs, err); err == nil {
					all.latencies = append(all.latencies, float64(time.Since(at).Microseconds())/1000)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if errs != nil {
		return load{}, fmt.Errorf("copy: %w", errs)
	}
	if len(all.latencies) == 0 {
		return load{}, errNothing
	}
	slices.Sort(all.latencies)
	all.transactions = len(all.latencies)
	all.perSecond = float64(all.transactions) / time.Since(began).Seconds()
	for _, ms := range all.latencies {
		all.averageMS += ms / float64(all.transactions)
	}
	return all, nil
}

func (g *ground) copyOnce(ctx context.Context, conn *pgconn.PgConn, way string) error {
	if way == "out" {
		_, err := conn.CopyTo(ctx, io.Discard, "copy ("+largeResult(g.cfg.Megabytes)+") to stdout")
		return err
	}
	_, err := conn.CopyFrom(ctx, &lines{left: g.cfg.Megabytes << 20}, "copy bench_copy from stdin where false")
	return err
}

// copyLine is a kilobyte.
var copyLine = append(bytes.Repeat([]byte("x"), 1023), '\n')

// lines is that many bytes of lines; a multiple of a line's length is whole.
type lines struct{ left, at int }

// Read implements io.Reader.
func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) && l.left > 0 {
		k := copy(p[n:min(len(p), n+l.left)], copyLine[l.at:])
		n, l.left, l.at = n+k, l.left-k, (l.at+k)%len(copyLine)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
