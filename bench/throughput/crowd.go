package throughput

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Crowd is what clients feel who all work at once, many more than there are server connections: how long a turn takes,
// waiting included, and whether all get the same.
type Crowd struct {
	Endpoint string  `json:"endpoint"`
	Clients  int     `json:"clients"`
	TPS      float64 `json:"tps"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	MaxMS    float64 `json:"max_ms"`
	// Turns of one client: the least, the median, the most.
	LeastTurns  float64 `json:"least_turns"`
	MedianTurns float64 `json:"median_turns"`
	MostTurns   float64 `json:"most_turns"`
	CPUMicros   float64 `json:"cpu_micros"` // of the proxy, by turn
	Problem     string  `json:"problem,omitempty"`
}

// crowd lets clients work all at once, on one endpoint after the other.
func (b *bench) crowd(ctx context.Context) error {
	if b.cfg.Crowd == 0 {
		return nil
	}
	for _, e := range b.endpoints {
		if !e.pooled {
			continue
		}
		c := Crowd{Endpoint: e.name, Clients: b.cfg.Crowd}
		if err := b.crowdOn(ctx, e, &c); err != nil {
			c.Problem = err.Error()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.report.Crowds = append(b.report.Crowds, c)
		b.cfg.say("crowd %-18s %d clients %9.0f/s  p50 %.1f ms, p99 %.1f, max %.1f; turns of a client %.0f to %.0f  %s", e.name, c.Clients,
			c.TPS, c.P50MS, c.P99MS, c.MaxMS, c.LeastTurns, c.MostTurns, c.Problem)
	}
	return nil
}

func (b *bench) crowdOn(ctx context.Context, e *endpoint, c *Crowd) error {
	ctx, cancel := context.WithTimeoutCause(ctx, idleLimit, fmt.Errorf("not within %v", idleLimit))
	defer cancel()
	conns, hangUp, err := b.logIn(ctx, c.Clients, b.ground.url(e.address, benchUser, benchDatabase))
	defer hangUp()
	if err != nil {
		return err
	}
	if err := inParallel(len(conns), func(n int) error { return conns[n].Exec(ctx, "select 1").Close() }); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	before, err := readUsage(e.pid())
	if err != nil {
		return err
	}
	waits := make([][]float64, len(conns)) // milliseconds, by client
	errs := make([]error, len(conns))
	start := make(chan struct{}) // closed when all stand ready
	var work sync.WaitGroup
	seconds := time.Duration(b.cfg.Seconds) * time.Second
	for n, conn := range conns {
		work.Go(func() { // ends when the time has passed, or at an error
			<-start
			for began, last := time.Now(), time.Now(); last.Sub(began) < seconds && errs[n] == nil; {
				errs[n] = conn.Exec(ctx, fmt.Sprintf("select abalance from pgbench_accounts where aid = %d", 1+n)).Close()
				now := time.Now()
				waits[n] = append(waits[n], float64(now.Sub(last).Microseconds())/1000)
				last = now
			}
		})
	}
	close(start)
	work.Wait()
	after, err := readUsage(e.pid())
	if err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("query: %w", err)
		}
	}
	c.summarize(waits, seconds)
	c.CPUMicros = micros(after.since(before).cpu) / (c.TPS * seconds.Seconds())
	return nil
}

// summarize fills the figures from the time that each turn of each client took, in milliseconds.
func (c *Crowd) summarize(waits [][]float64, seconds time.Duration) {
	var all, turns []float64
	for _, one := range waits {
		all, turns = append(all, one...), append(turns, float64(len(one)))
	}
	slices.Sort(all)
	slices.Sort(turns)
	c.TPS = float64(len(all)) / seconds.Seconds()
	c.P50MS, c.P99MS, c.MaxMS = quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1)
	c.LeastTurns, c.MedianTurns, c.MostTurns = quantile(turns, 0), quantile(turns, 0.5), quantile(turns, 1)
}

// logIn opens connections; hangUp closes those there are.
func (b *bench) logIn(ctx context.Context, clients int, url string) (conns []*pgconn.PgConn, hangUp func(), err error) {
	conns = make([]*pgconn.PgConn, clients)
	hangUp = func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close(ctx) // the proxy may keep nothing of it
			}
		}
	}
	err = inParallel(clients, func(n int) (err error) {
		conns[n], err = pgconn.Connect(ctx, url)
		return err
	})
	if err != nil {
		err = fmt.Errorf("log in: %w", err)
	}
	return conns, hangUp, err
}
