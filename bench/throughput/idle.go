package throughput

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Idle is what clients cost a proxy that do nothing. The kernel's memory is not counted.
type Idle struct {
	Endpoint    string  `json:"endpoint"`
	Clients     int     `json:"clients"`
	TLS         bool    `json:"tls"`
	BeforeBytes int64   `json:"before_bytes"`     // resident, with no clients
	FreshBytes  float64 `json:"fresh_bytes"`      // more, by client, after they have logged in
	UsedBytes   float64 `json:"used_bytes"`       // more, by client, after one query each
	CPUPercent  float64 `json:"cpu_percent"`      // of one core, with all of them idle
	LoginMicros float64 `json:"login_cpu_micros"` // CPU of the proxy by login
	Problem     string  `json:"problem,omitempty"`
}

// idle opens clients that idle, on one endpoint after the other.
func (b *bench) idle(ctx context.Context) error {
	if b.cfg.Idle == 0 {
		return nil
	}
	for _, e := range b.endpoints {
		if !e.pooled {
			continue
		}
		for _, encrypted := range []bool{false, true} {
			if encrypted && !b.cfg.IdleTLS {
				continue
			}
			i := Idle{Endpoint: e.name, Clients: b.cfg.Idle, TLS: encrypted}
			if err := b.idleOn(ctx, e, &i); err != nil {
				i.Problem = err.Error()
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b.report.Idle = append(b.report.Idle, i)
			b.cfg.say("idle  %-18s %s %.2f kB a client fresh, %.2f after a query, %.2f %% CPU  %s", e.name, i.how(), i.FreshBytes/1024, i.UsedBytes/1024,
				i.CPUPercent, i.Problem)
		}
	}
	return nil
}

// how tells how the clients were connected.
func (i Idle) how() string {
	if i.TLS {
		return "TLS"
	}
	return "clear"
}

// idleLimit bounds logins and queries of all idle clients.
const idleLimit = 5 * time.Minute

func (b *bench) idleOn(ctx context.Context, e *endpoint, i *Idle) error {
	ctx, cancel := context.WithTimeoutCause(ctx, idleLimit, fmt.Errorf("not within %v", idleLimit))
	defer cancel()
	if err := b.ground.restart(ctx, e); err != nil { // what it needed before is not to hide what it needs now
		return err
	}
	before, err := readUsage(e.pid())
	if err != nil {
		return err
	}
	address := b.ground.url(e.address, benchUser, benchDatabase)
	if i.TLS {
		address = strings.Replace(address, "sslmode=disable", "sslmode=require", 1)
	}
	conns, hangUp, err := b.logIn(ctx, b.cfg.Idle, address)
	defer hangUp()
	if err != nil {
		return err
	}
	fresh, err := readUsage(e.pid())
	if err != nil {
		return err
	}
	if err := inParallel(len(conns), func(n int) error { return conns[n].Exec(ctx, "select 1").Close() }); err != nil {
		return fmt.Errorf("query: %w", err)
	}
	used, err := readUsage(e.pid())
	if err != nil {
		return err
	}
	if err := pause(ctx, time.Duration(b.cfg.Seconds)*time.Second); err != nil {
		return err
	}
	after, err := readUsage(e.pid())
	clients := float64(b.cfg.Idle)
	i.BeforeBytes = before.resident
	i.FreshBytes, i.UsedBytes = float64(fresh.resident-before.resident)/clients, float64(used.resident-before.resident)/clients
	i.LoginMicros = micros(fresh.since(before).cpu) / clients
	i.CPUPercent = 100 * after.since(used).cpu.Seconds() / float64(b.cfg.Seconds)
	return err
}

// inParallel calls do for 0 to n-1, a few at a time, and returns the first errors.
func inParallel(n int, do func(i int) error) error {
	const workers = 16
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() { // ends with its share, or at an error
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// fetch gets a profile, which is small.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", answer.Status, content)
	}
	return content, err
}
