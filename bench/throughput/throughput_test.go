package throughput

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummaryOfPgbench(t *testing.T) {
	const good = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
number of transactions actually processed: 12345
number of failed transactions: 0 (0.000%)
latency average = 0.780 ms
initial connection time = 20.100 ms
tps = 10256.410256 (without initial connection time)
`
	l, err := parseSummary([]byte(good))
	if err != nil || l.transactions != 12345 || l.averageMS != 0.78 || math.Round(l.perSecond) != 10256 {
		t.Errorf("got %+v, %v", l, err)
	}
	for name, tt := range map[string]struct {
		from, to string
		want     error
	}{
		"nothing succeeded": {"processed: 12345", "processed: 0", errNothing},
		"some failed":       {"failed transactions: 0", "failed transactions: 7", nil},
		"other form":        {"latency average", "average latency", nil},
	} {
		if _, err := parseSummary([]byte(strings.Replace(good, tt.from, tt.to, 1))); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want an error (%v)", name, err, tt.want)
		}
	}
}

func TestCallsThatStraceCounted(t *testing.T) {
	const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.003000           3      2000           write
 30.00    0.001500           1      4000      2000 read
  5.00    0.000250           1       500           epoll_pwait
  3.00    0.000150           1       100           clock_gettime
  2.00    0.000100           1        50         1 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.005000           0      6650      2001 total
`
	var s Syscalls
	s.add([]byte(table))
	s.per(1000)
	want := Syscalls{Total: 6.65, Read: 4, Write: 2, Wait: 0.5, Other: 0.1, Futex: 0.05}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTimesOfAProcess(t *testing.T) {
	const line = "77 (a) b) S 12 77 77 0 -1 4194560 1 2 3 4 50 25 10 5 20 0 4 0 999 1 2"
	parent, own, waited, err := parseStat([]byte(line))
	if parent != 12 || own != 750*time.Millisecond || waited != 150*time.Millisecond || err != nil {
		t.Errorf("got %d, %v, %v, %v", parent, own, waited, err)
	}
	for _, bad := range []string{"", "77 (a", "77 (a) S 12", strings.Replace(line, " 50 ", " x ", 1)} {
		if _, _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: got no error", bad)
		}
	}
}

// Ratios pair runs of one round: a slow round is slow for both.
func TestRatiosPairRunsOfOneRound(t *testing.T) {
	var r Report
	for round, slow := range []float64{1, 10, 1} {
		r.Samples = append(r.Samples,
			Sample{Round: round, Endpoint: endpointWalgate, Workload: "select-simple", Clients: 8, CPUMicros: 12 * slow, TPS: 100 / slow},
			Sample{Round: round, Endpoint: endpointPgBouncer, Workload: "select-simple", Clients: 8, CPUMicros: 10 * slow, TPS: 200 / slow})
	}
	r.Samples = append(r.Samples, Sample{Round: 3, Endpoint: endpointWalgate, Workload: "select-simple", Clients: 8, Problem: "hung"},
		Sample{Round: 3, Endpoint: endpointPgBouncer, Workload: "select-simple", Clients: 8, CPUMicros: 1, TPS: 1})
	r.summarize("")
	if len(r.Lines) != 2 || r.Lines[0].Endpoint != endpointWalgate || r.Lines[0].Base != endpointPgBouncer {
		t.Fatalf("lines: %+v", r.Lines)
	}
	l := r.Lines[0]
	if got := l.CPU.String(); got != "1.20 (1.20-1.20)" || l.Runs != 3 || l.CPUMicros != 12 || l.Problem != "hung" {
		t.Errorf("CPU %s of %d runs, median %v, problem %q", got, l.Runs, l.CPUMicros, l.Problem)
	}
	if l.Speed.Median != 0.5 {
		t.Errorf("speed %v, want 0.5", l.Speed)
	}
	if r.Failed() == nil {
		t.Error("a run that hung: got no error")
	}
	var text bytes.Buffer
	page, err := r.html()
	if err := errors.Join(err, r.WriteTable(&text)); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"table": text.String(), "page": string(page)} {
		if !strings.Contains(content, "1.20 (1.20-1.20)") || !strings.Contains(content, "hung") {
			t.Errorf("the %s lacks the ratio or the problem:\n%s", name, content)
		}
	}
}

func TestSpread(t *testing.T) {
	if got := ratioOf([]float64{3, 1, 2}); got.Median != 2 || got.Low != 1 || got.High != 3 {
		t.Errorf("three rounds: got %v, want minimum and maximum", got)
	}
	if got := ratioOf([]float64{5, 1, 2, 4, 3}); got.Median != 3 || got.Low != 2 || got.High != 4 {
		t.Errorf("five rounds: got %v, want quartiles", got)
	}
	if got := ratioOf(nil).String(); got != "-" {
		t.Errorf("no round: got %q", got)
	}
}

func TestCells(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Workloads, cfg.Clients = []string{"select-simple", "tpcb:3", "copy-in"}, []int{8, 32}
	cells, err := cfg.cells()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range cells {
		names = append(names, c.String())
	}
	if diff := cmp.Diff([]string{"select-simple:8", "select-simple:32", "tpcb:3", "copy-in:4"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for name, change := range map[string]func(*Config){
		"workload":    func(c *Config) { c.Workloads = []string{"selects"} },
		"clients":     func(c *Config) { c.Clients = []int{0} },
		"no number":   func(c *Config) { c.Workloads = []string{"tpcb:many"} },
		"endpoint":    func(c *Config) { c.Endpoints = []string{"odyssey"} },
		"no endpoint": func(c *Config) { c.Endpoints = nil },
		"base":        func(c *Config) { c.Endpoints, c.Base = []string{"direct"}, "haproxy" },
		"rounds":      func(c *Config) { c.Rounds = 0 },
		"port":        func(c *Config) { c.Port = 65530 },
		"profile":     func(c *Config) { c.Profile = true },
		"nodes":       func(c *Config) { c.Nodes = maxNodes + 1 },
	} {
		bad := DefaultConfig()
		change(&bad)
		if err := bad.validate(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// The presets are valid, and where there are standbys the endpoints that differ only there are known.
func TestPresets(t *testing.T) {
	for name, cfg := range map[string]Config{"throughput": DefaultConfig(), "balance": BalanceConfig(), "levels": LevelsConfig()} {
		if err := cfg.validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if forStandbys(cfg.Base) && cfg.Nodes < 2 {
			t.Errorf("%s: the base %s needs standbys", name, cfg.Base)
		}
	}
	if most := (Config{Workloads: []string{"mix-95:7", "update"}, Clients: []int{3}}).mostClients(); most != 7 {
		t.Errorf("most clients: got %d, want 7", most)
	}
}

// Clients of one thread block each other while they prepare; see threads.
func TestThreadsCannotBlockEachOther(t *testing.T) {
	find := func(name string) workload { w, _ := findWorkload(name); return w }
	if got := (cell{find("tpcb-n-prepared"), 32}).threads(20); got != 32 {
		t.Errorf("more clients that write than servers: got %d threads, want one each", got)
	}
	if got := (cell{find("select-simple"), 1}).threads(20); got != 1 {
		t.Errorf("one client: got %d threads", got)
	}
}

func TestLinesOfCopy(t *testing.T) {
	content, err := io.ReadAll(io.LimitReader(&lines{left: 1 << 20}, 2<<20))
	if err != nil || len(content) != 1<<20 || bytes.Count(content, []byte("\n")) != 1024 || content[len(content)-1] != '\n' {
		t.Errorf("got %d bytes with %d lines, %v", len(content), bytes.Count(content, []byte("\n")), err)
	}
}

func TestVersionsThatPrepare(t *testing.T) {
	for version, want := range map[string]bool{"PgBouncer 1.18.0": false, "PgBouncer 1.20.1": false, "PgBouncer 1.21.0": true, "PgBouncer 1.25.2": true,
		"PgBouncer 2.0": true, "": false} {
		if got := pgBouncerPrepares(version); got != want {
			t.Errorf("%q: got %v, want %v", version, got, want)
		}
	}
}
