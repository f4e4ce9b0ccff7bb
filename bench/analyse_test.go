package bench

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgconn"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at returns moments, in milliseconds after the epoch of the tests.
func at(milliseconds ...int) []time.Time {
	var list []time.Time
	for _, m := range milliseconds {
		list = append(list, epoch.Add(time.Duration(m)*time.Millisecond))
	}
	return list
}

func TestLongestGap(t *testing.T) {
	for _, test := range []struct {
		name  string
		at    []time.Time
		since int
		ended int
		want  time.Duration
	}{
		{"nothing at all", nil, 0, 4000, -1},
		{"the gap that holds the fault", at(0, 10, 20, 320, 330), 25, 1000, 300 * time.Millisecond},
		{"a longer one before it does not count", at(0, 900, 910, 1000, 1010, 1020), 920, 1100, 90 * time.Millisecond},
		{"a later one counts", at(0, 10, 50, 60, 500), 15, 2000, 440 * time.Millisecond},
		{"unsorted", at(330, 0, 20, 10, 320), 25, 1000, 300 * time.Millisecond},
		{"it never came back", at(0, 10, 20), 25, 100, -1},
		{"it went away later", at(0, 10, 20, 30, 100), 25, 4000, -1},
		{"the end of the load is none", at(0, 10, 20, 30, 9000), 25, 9900, 8970 * time.Millisecond},
	} {
		if got := longestGap(test.at, at(test.since)[0], at(test.ended)[0]).length(); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestJudge(t *testing.T) {
	attempts := []attempt{{key: 1}, {key: 2}, {key: 3}, {key: 4, code: "40001"}, {key: 5, code: "40001"},
		{key: 6, code: "08007"}, {key: 7, code: "eof"}, {key: 8, code: "57P01"}, {key: 9, code: "reset"}}
	got := judge(attempts, map[int64]int{1: 1, 3: 2, 5: 1, 7: 1, 9: 1})
	want := verdict{acknowledged: 3, missing: []int64{2}, duplicates: []int64{3}, contradicted: []int64{5}, inDoubt: 4, inDoubtThere: 2}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
		t.Error(diff)
	}
}

func TestLateAcks(t *testing.T) {
	times := at(0, 10, 20)
	attempts := []attempt{{key: 1, sent: times[0], done: times[2]}, {key: 2, sent: times[2]}, {key: 3, sent: times[2], code: "eof"}}
	if late := lateAcks(attempts, times[1]); len(late) != 1 || late[0].key != 2 {
		t.Errorf("got %v, want row 2", late)
	}
}

func TestMedianAndMaximum(t *testing.T) {
	for _, test := range []struct {
		values          []float64
		median, maximum float64
	}{
		{nil, 0, 0}, {[]float64{3}, 3, 3}, {[]float64{5, 1, 3}, 3, 5}, {[]float64{4, 1, 2, 3}, 2, 4}, {[]float64{-1, 1, 9}, 9, -1},
	} {
		if m, x := median(test.values), maximum(test.values); m != test.median || x != test.maximum {
			t.Errorf("%v: got %v, %v; want %v, %v", test.values, m, x, test.median, test.maximum)
		}
	}
}

func TestHistogram(t *testing.T) {
	got := histogram(at(-1, 0, 99, 100, 250, 300), epoch, 100*time.Millisecond, 3)
	if diff := cmp.Diff([]int{2, 1, 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestErrorCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{fmt.Errorf("x: %w", &pgconn.PgError{Code: "57P01"}), "57P01"},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), "eof"},
		{os.ErrDeadlineExceeded, "timeout"},
		{errors.New("?"), "other"},
	} {
		if got := errorCode(test.err); got != test.want {
			t.Errorf("%v: got %q, want %q", test.err, got, test.want)
		}
	}
}

func TestParseStat(t *testing.T) {
	line := "12 (a) b) S 7 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99887 1 2 3"
	got, err := parseStat([]byte(line))
	if want := (stat{command: "a) b", parent: 7, started: 99887}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "12 (a", "12 (a) S 1", "12 (a) S x 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseCommits(t *testing.T) {
	log := "0 1 5213 0 1767323045 250000\n1 1 failed 0 1767323045 260000\nbroken\n2 7 99 0 1767323046 1 0\n"
	want := []time.Time{time.Unix(1767323045, 250000000), time.Unix(1767323046, 1000)}
	if diff := cmp.Diff(want, parseCommits([]byte(log))); diff != "" {
		t.Error(diff)
	}
}

func TestMarks(t *testing.T) {
	a, b := "a", "b"
	o := &observer{nodes: 1, epoch: 1}
	step := func(milliseconds int, epoch uint64, primary *string, open bool, role, state string) {
		c := cluster{Epoch: epoch, Primary: primary, Open: open}
		c.Members = append(c.Members, struct {
			Name  string `json:"name"`
			Role  string `json:"role"`
			State string `json:"state"`
		}{"b", role, state})
		o.note(c, at(milliseconds)[0])
	}
	step(0, 1, &a, true, "standby", "streaming")
	step(10, 2, &b, false, "standby", "streaming")
	step(20, 2, &b, false, "primary", "running")
	step(30, 2, &b, true, "primary", "running") // the other one is not seen to be gone yet
	step(40, 2, &b, true, "primary", "starting")
	step(50, 2, &b, true, "primary", "running")
	step(60, 3, &a, true, "standby", "streaming")
	want := marks{claimed: at(10)[0], promoted: at(20)[0], opened: at(30)[0], healed: at(50)[0], primary: "b"}
	if got := o.seen(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPassed(t *testing.T) {
	good := Run{OutageMS: 10}
	for _, test := range []struct {
		name  string
		fault Fault
		spoil func(*Run)
		want  string
	}{
		{"good", FaultKillNode, func(*Run) {}, ""},
		{"never", FaultKillNode, func(r *Run) { r.OutageMS = -1 }, "no write"},
		{"missing", FaultKillNode, func(r *Run) { r.MissingCount = 1 }, "missing"},
		{"double", FaultKillNode, func(r *Run) { r.DuplicateCount = 1 }, "more than once"},
		{"lie", FaultKillNode, func(r *Run) { r.Contradicted = []int64{1} }, "not committed"},
		{"direct", FaultFreezeNode, func(r *Run) { r.DirectMissing = 1 }, "past the proxy"},
		{"diverged", FaultKillNode, func(r *Run) { r.Diverged = []string{"b"} }, "differ"},
		{"idle", FaultKillNode, func(r *Run) { r.IdleBroken = 1 }, "idle"},
		{"problem", FaultKillNode, func(r *Run) { r.Problem = "hm" }, "hm"},
		{"errors in a failover", FaultKillNode, func(r *Run) { r.Errors = map[string]int{"08007": 1}; r.WritersBroken = 1 }, ""},
		{"errors in a switchover", FaultSwitchover, func(r *Run) { r.Errors = map[string]int{"08007": 1} }, "08007"},
	} {
		run := good
		test.spoil(&run)
		err := Report{Fault: test.fault, Runs: []Run{run}}.Passed()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestReportFiles(t *testing.T) {
	report := Report{Fault: FaultFreezeNode, Nodes: 3, Began: epoch, Runs: []Run{{
		Number: 1, From: "<node1>", OutageMS: 300, ClaimMS: 100, OpenMS: 200, FirstCommitMS: 300, ResumedMS: 60000, StepMS: 100, StartMS: -5000,
		WriterSeries: make([]int, 800), PgbenchSeries: []int{1, 2, 3}, Errors: map[string]int{"08007": 1, "57P01": 2},
		LastFailover: &LastFailover{Reason: "beat expired"},
	}}}
	report.summarize()
	dir := t.TempDir()
	if err := report.save(dir); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "freeze-node.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"&lt;node1&gt;", "0.300s", "08007:1 57P01:2", ">fault<", ">resumed<", "beat expired", "55 s"} {
		if !strings.Contains(string(content), want) {
			t.Errorf("no %q in the page", want)
		}
	}
	picture := content[strings.Index(string(content), "<svg"):strings.Index(string(content), "</svg>")]
	if err := xml.Unmarshal(append(picture, "</svg>"...), new(struct{})); err != nil {
		t.Errorf("the plot is no XML: %v", err)
	}
	var table strings.Builder
	if err := report.WriteTable(&table); err != nil || !strings.Contains(table.String(), "median 0.300s, maximum 0.300s") {
		t.Errorf("got %v\n%s", err, table.String())
	}
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.Dir = "d"
	for _, test := range []struct {
		name  string
		spoil func(*Config)
		ok    bool
	}{
		{"default", func(*Config) {}, true},
		{"fault", func(c *Config) { c.Fault = "x" }, false},
		{"runs", func(c *Config) { c.Runs = 0 }, false},
		{"writers", func(c *Config) { c.Writers = 0 }, false},
		{"folder", func(c *Config) { c.Dir = "" }, false},
		{"freeze", func(c *Config) { c.Fault, c.FreezeFor = FaultFreezeNode, 0 }, false},
	} {
		c := good
		test.spoil(&c)
		if err := c.validate(); (err == nil) != test.ok {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}

func TestSteps(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("node1/agent.log", `time=2026-01-02T03:04:04.000Z level=INFO msg=decision why=before
time=2026-01-02T03:04:05.200Z level=INFO msg="store move" move=vote took=3ms
time=2026-01-02T03:04:05.100Z level=INFO msg=decision why="the \"beat\" has expired" lease=vote
time=2026-01-02T03:04:05.150Z level=INFO msg="etcd says" part=etcd
time=2026-01-02T03:04:05.160Z level=WARN msg="server connection not opened" part=proxy
not a line
`)
	write("node2/agent.log", `{"time":"2026-01-02T03:04:05.3Z","level":"WARN","msg":"decision","why":"w","n":1}`+"\n")
	write("node1/postgres.log", "time=2026-01-02T03:04:05.100Z level=INFO msg=decision\n")
	steps := readSteps(dir, epoch, epoch.Add(time.Second))
	want := []Step{
		{AtMS: 100, Source: "node1/agent.log", Message: "decision", Facts: `lease=vote why=the "beat" has expired`},
		{AtMS: 200, Source: "node1/agent.log", Message: "store move", Facts: "move=vote took=3ms"},
		{AtMS: 300, Source: "node2/agent.log", Message: "decision", Facts: "n=1 why=w"},
	}
	if diff := cmp.Diff(want, steps, cmpopts.IgnoreUnexported(Step{})); diff != "" {
		t.Error(diff)
	}
	if d, v, c := firstStep(steps, "decision", ""), firstStep(steps, "store move", "vote"), firstStep(steps, "store move", "claim"); d != 100 || v != 200 || c != -1 {
		t.Errorf("got %v, %v, %v", d, v, c)
	}
}
