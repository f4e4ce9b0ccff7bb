package throughput

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// gateClients and gateTransactions are the load of the count gates.
const (
	gateClients      = 16
	gateTransactions = 1500 // of each client
)

// limits are what a transaction may cost a driver, on average: the calls that its design needs, and a margin for what
// else the process does meanwhile.
type limits struct{ reads, writes, allocations float64 }

// Any proxy reads twice and writes twice for a query and its answer. The loop does no more. Goroutines on net.Conn read
// each socket once more, to be told that nothing is there.
var (
	loopLimits      = limits{reads: 2.3, writes: 2.2, allocations: 1}
	goroutineLimits = limits{reads: 4.6, writes: 2.3, allocations: 1}
)

// TestRealProcesses runs what needs PostgreSQL and a walgate, built once.
func TestRealProcesses(t *testing.T) {
	walgate := buildWalgate(t)
	t.Run("counts", func(t *testing.T) { testCounts(t, walgate) })
	t.Run("measure", func(t *testing.T) { testMeasure(t, walgate) })
	t.Run("balance", func(t *testing.T) { testBalance(t, walgate) })
}

// testCounts runs pgbench through walgate's proxies and counts what does not depend on the machine's speed: read and
// write calls from /proc/PID/io, and those on sockets that are not in there and allocations from the process's own metrics.
func testCounts(t *testing.T, walgate string) {
	g, endpoints := gateGround(t, walgate)
	byName := map[string]*endpoint{}
	for _, e := range endpoints {
		byName[e.name] = e
	}
	if byName[endpointWalgate] == nil {
		t.Fatal("walgate's proxy did not start")
	}
	defaults := goroutineLimits
	if byName[endpointWalgateGoroutine] != nil { // the driver can be chosen, so the default is the loop
		defaults = loopLimits
	} else {
		t.Log("this walgate has one driver, goroutines")
	}
	for _, e := range endpoints {
		limit := goroutineLimits
		if e.name == endpointWalgate {
			limit = defaults
		}
		for _, protocol := range []string{"simple", "prepared"} {
			t.Run(e.name+"/"+protocol, func(t *testing.T) { checkCounts(t, g, e, protocol, limit) })
		}
	}
}

func checkCounts(t *testing.T, g *ground, e *endpoint, protocol string, limit limits) {
	// counted is what the process has done in all while do ran, and how long that took.
	counted := func(do func()) (limits, time.Duration) {
		own, began := metrics(t, e), time.Now()
		before, err := readUsage(e.pid())
		if err != nil {
			t.Fatal(err)
		}
		do()
		after, err := readUsage(e.pid())
		if err != nil {
			t.Fatal(err)
		}
		used := after.since(before)
		took, now := time.Since(began), metrics(t, e)
		return limits{float64(used.reads) + now.reads - own.reads, float64(used.writes) + now.writes - own.writes, now.allocations - own.allocations}, took
	}
	run := func(transactions int) func() {
		return func() {
			cmd := g.pgbenchCommand(t.Context(), e.address, "-n", "-S", "-M", protocol, "-c", fmt.Sprint(gateClients), "-j", "2", "-t", fmt.Sprint(transactions))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("pgbench: %v\n%s", err, out)
			}
		}
	}
	run(100)() // opens server connections, and lets grow what grows once
	const few = 300
	idle, idleTime := counted(func() { _ = pause(t.Context(), 2*time.Second) })
	short, shortTime := counted(run(few))
	long, longTime := counted(run(few + gateTransactions))
	// What goes on in the background is a matter of time, and logins are the same in both runs.
	each := func(figure func(limits) float64) float64 {
		background := figure(idle) / idleTime.Seconds() * (longTime - shortTime).Seconds()
		return (figure(long) - figure(short) - background) / (gateClients * gateTransactions)
	}
	got := limits{
		reads: each(func(l limits) float64 { return l.reads }), writes: each(func(l limits) float64 { return l.writes }),
		allocations: each(func(l limits) float64 { return l.allocations }),
	}
	t.Logf("idle: %.0f allocations a second", idle.allocations/idleTime.Seconds())
	t.Logf("a transaction: %.2f reads, %.2f writes, %.2f allocations", got.reads, got.writes, got.allocations)
	if got.reads < 1.8 || got.writes < 1.8 {
		t.Errorf("%.2f reads and %.2f writes: two of each are needed, so they are not counted here any more", got.reads, got.writes)
	}
	if got.reads > limit.reads || got.writes > limit.writes {
		t.Errorf("%.2f reads and %.2f writes; limits %.1f and %.1f", got.reads, got.writes, limit.reads, limit.writes)
	}
	if got.allocations > limit.allocations {
		t.Errorf("%.2f allocations; limit %.1f", got.allocations, limit.allocations)
	}
}

// metrics is what the process says that it has done.
func metrics(t *testing.T, e *endpoint) limits {
	t.Helper()
	content, err := fetch(t.Context(), e.api+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) float64 {
		for line := range strings.Lines(string(content)) {
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
				if err != nil {
					t.Fatalf("/metrics: %s: %v", name, err)
				}
				return n
			}
		}
		t.Fatalf("/metrics has no %s", name)
		return 0
	}
	return limits{value(`walgate_proxy_system_calls_total{call="read"}`), value(`walgate_proxy_system_calls_total{call="write"}`),
		value("go_memstats_mallocs_total")}
}

// buildWalgate builds one without the race detector.
func buildWalgate(t *testing.T) string {
	t.Helper()
	_, serverErr := program("postgres")
	if _, err := program("pgbench"); err != nil || serverErr != nil || testing.Short() {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" && !testing.Short() {
			t.Fatal("no PostgreSQL or no pgbench, and WALGATE_REQUIRE_POSTGRES=1")
		}
		t.Skip("SKIPPED: no PostgreSQL or no pgbench on this machine, or -short")
	}
	path := filepath.Join(openDir(t), "walgate")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/walgate/walgate/cmd/walgate")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build walgate: %v\n%s", err, out)
	}
	return path
}

// openDir is one that user postgres may enter, with a short name: sockets lie below it.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "wg-gate-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func realConfig(t *testing.T, walgate string) Config {
	cfg := DefaultConfig()
	cfg.Walgate, cfg.Dir, cfg.Port, cfg.Scale = walgate, filepath.Join(openDir(t), "data"), freePorts(t), 1
	return cfg
}

// gateGround starts PostgreSQL and one walgate proxy for each driver.
func gateGround(t *testing.T, walgate string) (*ground, []*endpoint) {
	t.Helper()
	cfg := realConfig(t, walgate)
	cfg.Endpoints = []string{endpointWalgate, endpointWalgateGoroutine}
	g, err := prepareGround(t.Context(), cfg)
	t.Cleanup(func() {
		if err := g.close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		for _, node := range g.nodes {
			t.Log(node.lastLines())
		}
		t.Fatal(err)
	}
	endpoints, skipped, err := startEndpoints(t.Context(), g)
	t.Cleanup(func() {
		for _, e := range endpoints {
			if err := e.end(); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("skipped: ", skipped)
	return g, endpoints
}

// testMeasure makes a whole measurement, a short one, and looks whether it has figures and has left nothing behind.
func testMeasure(t *testing.T, walgate string) {
	cfg := realConfig(t, walgate)
	cfg.Endpoints, cfg.Workloads, cfg.Base = []string{endpointDirect, endpointWalgate}, []string{"select-simple:2", "copy-in:1", "result:1"}, endpointWalgate
	cfg.Rounds, cfg.Seconds, cfg.Idle, cfg.Megabytes, cfg.Out = 1, 2, 20, 2, t.TempDir()
	cfg.IdleTLS, cfg.Crowd = true, 30
	report, err := Measure(t.Context(), cfg)
	if err := errors.Join(err, report.Failed()); err != nil {
		t.Fatal(err)
	}
	if len(report.Lines) != 6 || len(report.Syscalls) != 3 || len(report.Idle) != 2 || len(report.Crowds) != 1 {
		t.Fatalf("got %d lines, %d counts of calls, %d of idle clients", len(report.Lines), len(report.Syscalls), len(report.Idle))
	}
	for _, l := range report.Lines {
		proxied := l.Endpoint == endpointWalgate
		if l.TPS <= 0 || l.P99MS <= 0 || l.ServerCPUMicros <= 0 || (l.CPUMicros > 0) != proxied || (l.ResidentBytes > 0) != proxied {
			t.Errorf("figures are missing: %+v", l)
		}
	}
	for _, s := range report.Syscalls {
		if s.Problem == "" && (s.Read <= 0 || s.Write <= 0) {
			t.Errorf("calls are missing: %+v", s)
		}
	}
	for _, i := range report.Idle {
		if i.Problem != "" || i.BeforeBytes <= 0 || i.UsedBytes <= 0 {
			t.Errorf("idle clients: %+v", i)
		}
	}
	if c := report.Crowds[0]; c.Problem != "" || c.TPS <= 0 || c.LeastTurns < 1 || c.MaxMS < c.P50MS || c.MostTurns < c.MedianTurns {
		t.Errorf("crowd: %+v", c)
	}
	for _, name := range []string{"throughput.json", "throughput.html"} {
		if _, err := os.Stat(filepath.Join(cfg.Out, name)); err != nil {
			t.Error(err)
		}
	}
	nothingLeft(t, cfg)
}

// testBalance measures a mix on a primary and two standbys.
func testBalance(t *testing.T, walgate string) {
	real := realConfig(t, walgate)
	cfg := BalanceConfig()
	cfg.Walgate, cfg.Dir, cfg.Port, cfg.Scale, cfg.Rounds, cfg.Seconds = walgate, real.Dir, real.Port, 1, 1, 2
	cfg.Workloads = []string{"mix-95:4", "mix-90-prepared:4"}
	cfg.Endpoints = append(cfg.Endpoints, endpointWalgateEventual)
	report, err := Measure(t.Context(), cfg)
	if err := errors.Join(err, report.Failed()); err != nil {
		t.Fatal(err)
	}
	for name, why := range report.Skipped {
		t.Logf("SKIPPED %s: %s", name, why)
	}
	if want := 2 * (len(cfg.Endpoints) - len(report.Skipped)); len(report.Lines) != want {
		t.Errorf("got %d lines, want %d", len(report.Lines), want)
	}
	for _, l := range report.Lines {
		proxied := l.Endpoint != endpointDirect
		if l.TPS <= 0 || l.P99MS <= 0 || l.ServerCPUMicros <= 0 || (l.CPUMicros > 0) != proxied {
			t.Errorf("figures are missing: %+v", l)
		}
		if (l.Offloaded > 0) != proxied || (l.Endpoint == endpointWalgateEventual || l.Endpoint == endpointPgpool) && l.Offloaded < 99 {
			t.Errorf("%s on %s: %.1f %% of the reads on standbys", l.Workload, l.Endpoint, l.Offloaded)
		}
	}
	nothingLeft(t, cfg)
}

// nothingLeft looks for the folder, and for listeners, of a measurement that is over.
func nothingLeft(t *testing.T, cfg Config) {
	t.Helper()
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of data is still there: %v", err)
	}
	for port := cfg.Port; port < cfg.Port+ports; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Errorf("something still listens: %v", err)
			continue
		}
		_ = l.Close()
	}
}

// freePorts finds a block of free ports below those that the kernel gives to clients.
func freePorts(t *testing.T) int {
	t.Helper()
	for first := 20000 + int(time.Now().UnixNano()/1000%5000); first < 32000; first += ports {
		free := true
		for port := first; free && port < first+ports; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				_ = l.Close()
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no free block of ports")
	return 0
}
