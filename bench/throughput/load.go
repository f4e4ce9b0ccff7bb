package throughput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// load is what clients felt in one run.
type load struct {
	transactions int
	perSecond    float64 // connecting included when every transaction does
	averageMS    float64
	latencies    []float64 // milliseconds, sorted
}

// percentile returns the latency, in milliseconds, that p of 100 transactions did not exceed.
func (l load) percentile(p int) float64 {
	if len(l.latencies) == 0 {
		return 0
	}
	return l.latencies[min(len(l.latencies)-1, len(l.latencies)*p/100)]
}

// loadGrace is how much longer than told a run may take before it counts as hung.
const loadGrace = time.Minute

// load runs a workload through an endpoint.
func (b *bench) load(ctx context.Context, e *endpoint, c cell, seconds int) (load, error) {
	duration := time.Duration(seconds) * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, duration+loadGrace, fmt.Errorf("hung for %v", loadGrace))
	defer cancel()
	if c.work.copying != "" {
		return b.ground.copyLoad(ctx, e, c, duration)
	}
	dir, err := os.MkdirTemp(b.ground.dir, "run-")
	if err != nil {
		return load{}, fmt.Errorf("make a folder for pgbench: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the whole folder goes at the end
	cmd := b.ground.pgbenchCommand(ctx, e.address, c.pgbenchArgs(b.cfg, seconds, b.ground.path)...)
	cmd.Dir = dir
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return load{}, fmt.Errorf("pgbench: %w: %.300s", err, problems.Bytes())
	}
	l, err := parseSummary(out.Bytes())
	if err != nil {
		return load{}, err
	}
	l.latencies, err = readLatencies(dir)
	return l, err
}

// pgbenchCommand returns one invocation through an address.
func (g *ground) pgbenchCommand(ctx context.Context, address string, args ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(address) // made by this package
	cmd := exec.CommandContext(ctx, g.pgbench, append(args, benchDatabase)...)
	cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGUSER="+benchUser, "PGPASSWORD="+g.password,
		"PGSSLMODE=disable", "PGGSSENCMODE=disable", "PGAPPNAME=pgbench", "PGCONNECT_TIMEOUT=40")
	cmd.WaitDelay = time.Second
	return cmd
}

// What pgbench says at its end (PostgreSQL documentation, pgbench, since version 14).
var (
	summaryTransactions = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	summaryFailed       = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	summaryAverage      = regexp.MustCompile(`(?m)^latency average = ([\d.]+) ms`)
	summaryPerSecond    = regexp.MustCompile(`(?m)^tps = ([\d.]+) \(`)
)

// errNothing is the outcome of a run in which no transaction succeeded: it was too short for its clients to log in.
var errNothing = errors.New("no transaction succeeded")

func parseSummary(out []byte) (load, error) {
	var err error
	number := func(pattern *regexp.Regexp) float64 {
		found := pattern.FindSubmatch(out)
		if found == nil {
			err = errors.Join(err, fmt.Errorf("pgbench's summary lacks %q: %.500s", pattern, out))
			return 0
		}
		n, parseErr := strconv.ParseFloat(string(found[1]), 64)
		err = errors.Join(err, parseErr)
		return n
	}
	l := load{transactions: int(number(summaryTransactions))}
	if err == nil && l.transactions == 0 {
		return load{}, errNothing // pgbench has no averages of nothing
	}
	l.averageMS, l.perSecond = number(summaryAverage), number(summaryPerSecond)
	if summaryFailed.Match(out) {
		if n := number(summaryFailed); n > 0 {
			err = errors.Join(err, fmt.Errorf("%.0f transactions failed", n))
		}
	}
	return l, err
}

// readLatencies reads the logs of all threads (PostgreSQL documentation, pgbench, "Per-Transaction Logging"): client,
// number, microseconds, and more. With a fixed rate the time counts from when the transaction was due.
func readLatencies(dir string) ([]float64, error) {
	files, err := filepath.Glob(filepath.Join(dir, "pgbench_log.*"))
	if err != nil {
		return nil, err
	}
	var all []float64
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read pgbench's log: %w", err)
		}
		for line := range bytes.Lines(content) {
			fields := bytes.Fields(line)
			if len(fields) < 3 {
				continue
			}
			if n, err := strconv.ParseFloat(string(fields[2]), 64); err == nil { // else it says that the transaction failed
				all = append(all, n/1000)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}
