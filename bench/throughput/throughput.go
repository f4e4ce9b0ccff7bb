package throughput

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
)

// Measure runs the whole measurement; what the report holds is valid beside an error. Everything that was started is gone
// when it returns.
func Measure(ctx context.Context, cfg Config) (report Report, err error) {
	if err := cfg.validate(); err != nil {
		return Report{}, fmt.Errorf("bench throughput: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("bench throughput: %w", err)
		}
	}()
	report = Report{Began: time.Now(), CPUs: runtime.NumCPU(), Pool: cfg.Pool, Rounds: cfg.Rounds, Seconds: cfg.Seconds, Rate: cfg.Rate,
		Nodes: cfg.Nodes, Scale: cfg.Scale, Megabytes: cfg.Megabytes, Versions: map[string]string{}}
	if err := allowFiles(max(cfg.Idle, cfg.Crowd)); err != nil {
		return report, err
	}
	g, err := prepareGround(ctx, cfg)
	defer func() { err = errors.Join(err, g.close()) }()
	if err != nil {
		return report, err
	}
	b := &bench{cfg: cfg, ground: g, report: &report}
	defer func() { err = errors.Join(err, b.endEndpoints()) }()
	if b.endpoints, report.Skipped, err = startEndpoints(ctx, g); err != nil {
		return report, err
	}
	for _, e := range b.endpoints {
		report.Versions[e.name] = e.version
	}
	if err := b.run(ctx); err != nil {
		return report, err
	}
	report.summarize(cfg.Base)
	if cfg.Out != "" {
		return report, report.save(cfg.Out)
	}
	return report, nil
}

// bench is one measurement.
type bench struct {
	cfg       Config
	ground    *ground
	endpoints []*endpoint
	report    *Report
}

func (b *bench) endEndpoints() error {
	var errs []error
	for _, e := range b.endpoints {
		errs = append(errs, e.end())
	}
	return errors.Join(errs...)
}

// run makes all runs: the rounds, then what would disturb them.
func (b *bench) run(ctx context.Context) error {
	cells, err := b.cfg.cells()
	if err != nil {
		return err
	}
	if err := b.warmUp(ctx, cells); err != nil {
		return err
	}
	for round := 1; round <= b.cfg.Rounds; round++ {
		for _, c := range cells {
			if err := b.round(ctx, round, c); err != nil {
				return err
			}
		}
	}
	for _, c := range cells {
		if err := b.extras(ctx, c); err != nil {
			return err
		}
	}
	if err := b.idle(ctx); err != nil {
		return err
	}
	return b.crowd(ctx)
}

// able returns the endpoints on which the workload runs, in an order of chance.
func (b *bench) able(c cell) []*endpoint {
	var able []*endpoint
	for _, e := range b.endpoints {
		if e.can(c) == nil {
			able = append(able, e)
		}
	}
	rand.Shuffle(len(able), func(i, j int) { able[i], able[j] = able[j], able[i] })
	return able
}

// warmUp opens the server connections of all endpoints with the largest number of clients, and fills PostgreSQL's memory.
func (b *bench) warmUp(ctx context.Context, cells []cell) error {
	for _, e := range b.endpoints {
		most := cell{}
		for _, c := range cells {
			if e.can(c) == nil && !c.work.bulk() && c.clients > most.clients {
				most = c
			}
		}
		if most.clients == 0 {
			continue
		}
		if _, err := b.load(ctx, e, most, 2); err != nil && !errors.Is(err, errNothing) {
			return fmt.Errorf("warm up %s on %s: %w", most, e.name, err)
		}
	}
	return nil
}

// round measures one cell on every endpoint, one shortly after the other. A run that fails is told and has no figures.
func (b *bench) round(ctx context.Context, number int, c cell) error {
	for _, e := range b.able(c) {
		s := Sample{Round: number, Endpoint: e.name, Workload: c.work.name, Clients: c.clients}
		if err := b.sample(ctx, e, c, &s); err != nil {
			s.Problem = err.Error()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.report.Samples = append(b.report.Samples, s)
		b.cfg.say("round %d  %-22s %-18s %9.0f/s  %8.1f us  p99 %8.3f ms  %s%s", number, c, e.name, s.TPS, s.CPUMicros, s.P99MS,
			s.where(), s.Problem)
	}
	return nil
}

// sample measures one run.
func (b *bench) sample(ctx context.Context, e *endpoint, c cell, s *Sample) error {
	readsBefore, readsErr := b.ground.reads(ctx)
	serverBefore, serverErr := b.ground.serverCPU()
	before, err := e.usage()
	if err := errors.Join(err, serverErr, readsErr); err != nil {
		return err
	}
	l, err := b.load(ctx, e, c, b.cfg.Seconds)
	if err != nil {
		return err
	}
	after, err := e.usage()
	serverAfter, serverErr := b.ground.serverCPU()
	readsAfter, readsErr := b.ground.reads(ctx)
	if err := errors.Join(err, serverErr, readsErr); err != nil {
		return err
	}
	s.Reads, s.StandbyReads = readsAfter.all-readsBefore.all, readsAfter.standby-readsBefore.standby
	used, units := after.since(before), float64(l.transactions)
	if c.work.bulk() {
		units *= float64(b.cfg.Megabytes)
	}
	s.Transactions, s.TPS = l.transactions, l.perSecond
	s.CPUMicros, s.ServerCPUMicros = micros(used.cpu)/units, micros(serverAfter-serverBefore)/units
	s.Switches, s.ResidentBytes = float64(used.switches)/units, used.resident
	s.AverageMS, s.P50MS, s.P95MS, s.P99MS = l.averageMS, l.percentile(50), l.percentile(95), l.percentile(99)
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// extras makes the runs of a cell whose speed does not count.
func (b *bench) extras(ctx context.Context, c cell) error {
	for _, e := range b.able(c) {
		if b.cfg.Syscalls && e.process != nil && !e.family { // strace would have to follow each child
			counts, err := b.countSyscalls(ctx, e, c)
			if err != nil {
				counts.Problem = err.Error()
			}
			b.report.Syscalls = append(b.report.Syscalls, counts)
		}
		if b.cfg.Profile && e.api != "" {
			if err := b.profile(ctx, e, c); err != nil {
				b.cfg.say("profile of %s on %s: %v", c, e.name, err)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}
