package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Failover measures a fault cfg.Runs times and returns what it saw; what it saw is valid beside an error. Everything
// that it starts is gone when it returns, and whatever it has stopped goes on. Report.Passed judges.
func Failover(ctx context.Context, cfg Config) (report Report, err error) {
	if err := cfg.validate(); err != nil {
		return Report{}, fmt.Errorf("bench failover: %w", err)
	}
	stop, err := ensureDemo(ctx, cfg)
	if err != nil {
		return Report{}, fmt.Errorf("bench failover: %w", err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	report = Report{Fault: cfg.Fault, Began: time.Now()}
	for number := 1; number <= cfg.Runs; number++ {
		run, err := oneRun(ctx, cfg, number, &report)
		if err != nil {
			return report, fmt.Errorf("bench failover: run %d: %w", number, err)
		}
		report.Runs = append(report.Runs, run)
		report.summarize()
		cfg.say("run %d: outage %s, missing %d of %d, errors %s, broken %d, idle broken %d %s", number, seconds(run.OutageMS),
			run.MissingCount, run.Acknowledged, counts(run.Errors), run.WritersBroken, run.IdleBroken, run.Problem)
	}
	if cfg.Out != "" {
		if err := report.save(cfg.Out); err != nil {
			return report, fmt.Errorf("bench failover: %w", err)
		}
	}
	return report, nil
}

func (c Config) say(format string, args ...any) {
	if c.Progress != nil {
		_, _ = fmt.Fprintf(c.Progress, format+"\n", args...)
	}
}

// oneRun prepares a healthy cluster, loads it, injects the fault, and judges. Errors are of the preparation; what goes
// wrong after the fault is the run's Problem.
func oneRun(ctx context.Context, cfg Config, number int, report *Report) (Run, error) {
	demo, err := LoadDemo(cfg.Dir)
	if err != nil {
		return Run{}, err
	}
	report.Nodes = len(demo.Nodes)
	b := &bed{cfg: cfg, demo: demo, api: newAPI(demo.Sidecar.API), run: Run{Number: number, StepMS: 100, ResumedMS: -1}}
	defer b.close()
	if err := b.prepare(ctx); err != nil {
		return Run{}, err
	}
	stopLoad := b.startLoad(ctx)
	problems := []error{b.faultAndHeal(ctx)}
	problems = append(problems, stopLoad())
	problems = append(problems, b.checkIdle(ctx), b.awaitStart())
	problems = append(problems, b.conclude(ctx))
	if err := errors.Join(problems...); err != nil {
		b.run.Problem = err.Error()
	}
	return b.run, context.Cause(ctx)
}

// bed is the test bed of one run.
type bed struct {
	cfg  Config
	demo Demo
	api  *api
	run  Run

	node     Node // that the fault hits: the primary
	observer *observer
	through  journal   // writers through the sidecar
	direct   []journal // writers past it, one per node of the demo
	pgbench  *pgbench
	idle     []*idler
	began    time.Time // of the load
	ended    time.Time // no statement was begun after
	injected time.Time
	struck   time.Time  // when the fault was complete: what the old node answers that was sent later is a second writer's
	starting chan error // carries the outcome of starting the killed node; nil: it was not
	returned time.Time  // when the node hit was let go on; zero: never
}

func (b *bed) close() {
	for _, i := range b.idle {
		closeConn(i.conn)
	}
	if b.pgbench != nil {
		_ = os.RemoveAll(b.pgbench.dir)
	}
	b.api.close()
}

// prepare waits for a healthy cluster and makes tables and idle sessions.
func (b *bed) prepare(ctx context.Context) error {
	c, err := b.api.waitHealthy(ctx, len(b.demo.Nodes), b.cfg.Limit)
	if err != nil {
		return fmt.Errorf("wait for a healthy cluster: %w", err)
	}
	if b.node, err = b.demo.Node(c.primary()); err != nil {
		return err
	}
	b.run.From = b.node.Name
	b.observer = &observer{api: b.api, nodes: len(b.demo.Nodes), epoch: c.Epoch}
	b.direct = make([]journal, len(b.demo.Nodes))
	if err := b.makeTable(ctx); err != nil {
		return fmt.Errorf("make the table of the writers: %w", err)
	}
	if b.cfg.PgbenchClients > 0 {
		dir, err := os.MkdirTemp("", "walgate-bench-")
		if err != nil {
			return fmt.Errorf("make a folder for pgbench: %w", err)
		}
		b.pgbench = &pgbench{cfg: b.cfg, demo: b.demo, dir: dir}
		if err := b.pgbench.initialize(ctx); err != nil {
			return err
		}
	}
	for range b.cfg.IdleSessions {
		i, err := newIdler(ctx, b.demo.url(b.demo.Sidecar.Addr, connectLimit))
		if err != nil {
			return fmt.Errorf("open an idle session: %w", err)
		}
		b.idle = append(b.idle, i)
	}
	return nil
}

// connectLimit is how long a connection may take: longer than walgate holds a login.
const connectLimit = 40 * time.Second

func (b *bed) makeTable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.demo.url(b.demo.Sidecar.Addr, connectLimit))
	if err != nil {
		return err
	}
	defer closeConn(conn)
	_, err = conn.Exec(ctx, createTable)
	return err
}

// startLoad starts writers, pgbench and the observer; the function returned ends and waits for them.
func (b *bed) startLoad(ctx context.Context) (stop func() error) {
	b.began = time.Now()
	b.injected = b.began // until it is
	soft, endSoft := context.WithCancel(ctx)
	hard, endHard := context.WithCancel(ctx)
	var load, watch sync.WaitGroup
	for n := range b.cfg.Writers {
		w := writer{number: n + 1, via: "proxy", url: b.demo.url(b.demo.Sidecar.Addr, connectLimit), pace: b.cfg.Pace,
			retry: 10 * time.Millisecond, journal: &b.through}
		load.Go(func() { w.run(soft, hard) }) // ends with soft, at the latest with hard
	}
	for i, node := range b.demo.Nodes {
		if !b.cfg.Direct {
			break
		}
		w := writer{number: maxWriters + i + 1, via: node.Name, url: b.demo.url(node.Postgres, time.Second), pace: 5 * time.Millisecond,
			retry: 50 * time.Millisecond, journal: &b.direct[i]}
		load.Go(func() { w.run(soft, hard) })
	}
	if b.pgbench != nil {
		load.Go(func() { b.pgbench.run(soft, hard, b.cfg.load()) })
	}
	watch.Go(func() { b.observer.run(soft) })
	return func() error {
		b.ended = time.Now()
		endSoft()
		finished := make(chan struct{})
		go func() { // ends when the load has
			load.Wait()
			close(finished)
		}()
		var err error
		select {
		case <-finished:
		case <-time.After(loadGrace):
			err = fmt.Errorf("statements hung for %v after the load had ended", loadGrace)
		}
		endHard()
		<-finished
		watch.Wait()
		return err
	}
}

// loadGrace is how long statements under way may take when the load ends.
const loadGrace = 20 * time.Second

// faultAndHeal injects the fault into the loaded cluster, lets time pass, and takes it back.
func (b *bed) faultAndHeal(ctx context.Context) (err error) {
	if err := pause(ctx, b.cfg.Warmup); err != nil {
		return err
	}
	demo, err := LoadDemo(b.cfg.Dir) // pids may have changed since the start
	if err != nil {
		return err
	}
	if b.node, err = demo.Node(b.node.Name); err != nil {
		return err
	}
	b.injected = time.Now()
	f, err := inject(ctx, b.cfg, b.api, b.node)
	b.struck = time.Now() // the last of its processes has had its signal
	defer func() { err = errors.Join(err, f.undo()) }()
	if err != nil {
		return err
	}
	b.cfg.say("run %d: %s on %s", b.run.Number, b.cfg.Fault, b.node.Name)
	if b.cfg.Fault.freezes() {
		if err := pause(ctx, b.cfg.FreezeFor); err != nil {
			return err
		}
		b.returned = time.Now()
		if err := f.resume(); err != nil {
			return err
		}
	}
	if b.cfg.Fault == FaultKillNode {
		if err := pause(ctx, b.cfg.Tail/2); err != nil { // without it for a while
			return err
		}
		b.returned = time.Now()
		b.starting = make(chan error, 1)
		go func() { // ends with the verb, whose time is limited; waited for by awaitStart
			b.starting <- walgate(ctx, b.cfg, "demo", "start", b.node.Name, "--dir", b.cfg.Dir)
		}()
	}
	ends := b.began.Add(b.cfg.load())
	if err := pause(ctx, time.Until(ends)); err != nil {
		return err
	}
	return b.awaitWrites(ctx)
}

// awaitStart waits until the node that was killed has been started, if that is under way.
func (b *bed) awaitStart() error {
	if b.starting == nil {
		return nil
	}
	return <-b.starting
}

// awaitWrites prolongs the load until a write has succeeded lately, within the limit.
func (b *bed) awaitWrites(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.Limit, fmt.Errorf("no write within %v", b.cfg.Limit))
	defer cancel()
	for {
		last := b.through.lastAck()
		if last.After(b.injected) && time.Since(last) < time.Second {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// checkIdle asks every idle session for its state.
func (b *bed) checkIdle(ctx context.Context) error {
	b.run.IdleSessions = len(b.idle)
	for _, i := range b.idle {
		if err := i.check(ctx); err != nil {
			b.run.IdleBroken++
			b.run.IdleProblem = err.Error()
		}
	}
	return context.Cause(ctx)
}
