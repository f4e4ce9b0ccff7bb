package readtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Load is many logical sessions that write rows and read them back. Each logical session owns one row, of which it alone
// writes rising values; several share a connection, as the requests of a web tier do.
type Load struct {
	Connect     func(ctx context.Context) (string, error) // the connection string of the next connection
	Level       string                                    // walgate.consistency of the sessions
	Fallback    string                                    // walgate.fallback of the sessions; empty: that of the proxy
	Table       string                                    // see Schema
	Connections int
	Sessions    int           // logical ones, at least as many
	Reads       int64         // the load ends after so many
	Patience    time.Duration // how long a connection that fails tries to connect again
	Recorded    int           // rows of which a history is kept for the checker of histories
	// Readers is how many of the connections, the last ones, only read what others write.
	Readers int
	// Enough, when it is closed, ends the load before its time; nil: never.
	Enough <-chan struct{}
	// Reconnects: one of so many operations is followed by a new connection that takes over the token of the old one; 0
	// is none.
	Reconnects int
}

// Schema makes the table of a Load. It is run by whoever may.
func (l *Load) Schema() string {
	return fmt.Sprintf("create table %s (id int primary key, v bigint not null); insert into %s select i, 0 from generate_series(0, %d) i",
		l.Table, l.Table, l.Sessions-1)
}

// run is a Load in progress.
type run struct {
	*Load
	began time.Time
	left  atomic.Int64 // reads that may still be begun
	// Of each row: the newest value that was acknowledged to its writer, and the newest that was sent.
	acked, sent []atomic.Int64

	mu      sync.Mutex
	report  Report
	history []Operation
}

// Run carries the load out. An error says that it could not go on; what the sessions saw is in the Report.
func (l *Load) Run(ctx context.Context) (*Report, error) {
	r := &run{Load: l, began: time.Now(), acked: make([]atomic.Int64, l.Sessions), sent: make([]atomic.Int64, l.Sessions)}
	r.left.Store(l.Reads)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var clients sync.WaitGroup
	for i := range l.Connections {
		clients.Go(func() { // ends with the reads, with ctx, or with the first client that can't go on
			if err := r.client(ctx, i); err != nil {
				stop(err)
			}
		})
	}
	clients.Wait()
	r.report.Elapsed = time.Since(r.began)
	r.report.History = r.history
	return &r.report, context.Cause(ctx)
}

// client uses one connection for its logical sessions, until all reads are done.
func (r *run) client(ctx context.Context, number int) error {
	c := &client{run: r, random: rand.New(rand.NewPCG(uint64(number), uint64(r.Sessions))), seen: map[int]sight{}}
	for id := number; id < r.Sessions; id += r.Connections {
		c.own = append(c.own, id)
	}
	defer c.close()
	step := c.step
	if number >= r.Connections-r.Readers {
		step = c.look
	}
	for r.left.Load() > 0 && ctx.Err() == nil && !r.ended() {
		err := c.try(ctx, step)
		if err == nil {
			continue
		}
		if lasting := c.failed(err); lasting != nil {
			return lasting
		}
	}
	return nil
}

func (r *run) ended() bool {
	select {
	case <-r.Enough:
		return true
	default:
		return false
	}
}

// now is the time since the load began.
func (r *run) now() time.Duration { return time.Since(r.began) }

// wrote notes a write. Its answer may be missing: then nobody knows whether the value is there.
func (r *run) wrote(row int, value int64, began time.Duration, acknowledged bool) {
	if acknowledged {
		raise(&r.acked[row], value)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if acknowledged {
		r.report.Writes++
	} else {
		r.report.Unknown++
	}
	if row < r.Recorded {
		r.history = append(r.history, Operation{Row: row, Write: true, Value: value, Began: began, Ended: r.now(), Unknown: !acknowledged})
	}
}

func raise(at *atomic.Int64, value int64) {
	for {
		old := at.Load()
		if old >= value || at.CompareAndSwap(old, value) {
			return
		}
	}
}
