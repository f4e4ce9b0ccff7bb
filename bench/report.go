package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the outcome of a measurement. Times in milliseconds; -1 means that it never came.
type Report struct {
	Fault Fault     `json:"fault"`
	Nodes int       `json:"nodes"`
	Began time.Time `json:"began"`
	Runs  []Run     `json:"runs"`

	MedianOutageMS float64 `json:"median_outage_ms"`
	MaxOutageMS    float64 `json:"max_outage_ms"`
	Missing        int     `json:"missing"` // of all runs
	Broken         int     `json:"broken_sessions"`
	Errors         int     `json:"errors"`
}

// Run is one fault.
type Run struct {
	Number   int       `json:"number"`
	Injected time.Time `json:"injected"`
	From     string    `json:"from"` // the node that the fault hit
	To       string    `json:"to"`   // the primary at the end
	Problem  string    `json:"problem,omitempty"`

	OutageMS float64 `json:"outage_ms"` // longest time without an acknowledgement to the writers
	// From the fault to ...; detection (the first decision) and votes are as the agents logged them, claim, promotion and
	// open door as the sidecar's API showed them.
	DetectMS      float64 `json:"detect_ms"`
	VoteMS        float64 `json:"vote_ms"`
	ClaimMS       float64 `json:"claim_ms"`
	PromoteMS     float64 `json:"promote_ms"`
	OpenMS        float64 `json:"open_ms"`
	FirstCommitMS float64 `json:"first_commit_ms"`
	HealedMS      float64 `json:"healed_ms"` // every member works again
	WaitedMS      float64 `json:"waited_ms"` // longest acknowledged statement

	LastFailover *LastFailover `json:"last_failover,omitempty"` // the cluster's own account

	Errors         map[string]int `json:"errors"`         // of the writers' statements, by SQLSTATE or word
	ConnectErrors  map[string]int `json:"connect_errors"` // of their connections
	WritersBroken  int            `json:"writers_broken"` // connections of writers that ended
	IdleSessions   int            `json:"idle_sessions"`
	IdleBroken     int            `json:"idle_broken"`
	IdleProblem    string         `json:"idle_problem,omitempty"`
	Acknowledged   int            `json:"acknowledged"`
	Missing        []int64        `json:"missing"`      // acknowledged and not in the table; the first hundred
	Duplicates     []int64        `json:"duplicates"`   // more than once in the table
	Contradicted   []int64        `json:"contradicted"` // reported as not committed, and in the table
	InDoubt        int            `json:"in_doubt"`
	InDoubtThere   int            `json:"in_doubt_committed"`
	Diverged       []string       `json:"diverged"` // standbys whose table is another
	DirectLate     int            `json:"direct_late"`
	DirectMissing  int            `json:"direct_missing"`
	Pgbench        Pgbench        `json:"pgbench"`
	StepMS         float64        `json:"step_ms"`      // width of a bucket of the series
	StartMS        float64        `json:"start_ms"`     // of the series, before the fault: below 0
	WriterSeries   []int          `json:"writer_acks"`  // per bucket
	PgbenchSeries  []int          `json:"pgbench_acks"` // per bucket
	ResumedMS      float64        `json:"resumed_ms"`   // when frozen processes went on; -1: nothing was frozen
	MissingCount   int            `json:"missing_count"`
	DuplicateCount int            `json:"duplicate_count"`
	Steps          []Step         `json:"steps"` // the agents' own account, until shortly after the first commit
}

// Pgbench is what pgbench felt.
type Pgbench struct {
	Clients   int     `json:"clients"`
	Commits   int     `json:"commits"`
	OutageMS  float64 `json:"outage_ms"`
	Aborted   int     `json:"aborted"` // clients that gave up at an error
	Starts    int     `json:"starts"`  // of the program: it ends when all clients have given up
	LastError string  `json:"last_error,omitempty"`
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// since returns the time from start to at, -1 when at never came.
func since(start, at time.Time) float64 {
	if at.IsZero() {
		return -1
	}
	return ms(at.Sub(start))
}

func outageMS(o outage) float64 {
	if o.length() < 0 {
		return -1
	}
	return ms(o.length())
}

// summarize fills what is about all runs.
func (r *Report) summarize() {
	var outages []float64
	r.Missing, r.Broken, r.Errors = 0, 0, 0
	for _, run := range r.Runs {
		outages = append(outages, run.OutageMS)
		r.Missing += run.MissingCount
		r.Broken += run.WritersBroken + run.IdleBroken
		for _, n := range run.Errors {
			r.Errors += n
		}
	}
	r.MedianOutageMS, r.MaxOutageMS = median(outages), maximum(outages)
}

// Passed returns nil when every run kept what the cluster promises for the fault: service came back, nothing that was
// acknowledged is missing, nothing doubled, nobody was told a lie, and no session that did nothing was broken.
func (r Report) Passed() error {
	var errs []error
	for _, run := range r.Runs {
		broken := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("run %d: %s", run.Number, fmt.Sprintf(format, args...)))
		}
		if run.Problem != "" {
			broken("%s", run.Problem)
		}
		if run.OutageMS < 0 {
			broken("no write succeeded after the fault")
		}
		if run.MissingCount > 0 {
			broken("%d acknowledged rows are missing", run.MissingCount)
		}
		if run.DuplicateCount > 0 {
			broken("%d rows are there more than once", run.DuplicateCount)
		}
		if n := len(run.Contradicted); n > 0 {
			broken("%d rows reported as not committed are there", n)
		}
		if run.DirectMissing > 0 {
			broken("%d rows acknowledged past the proxy after the fault are missing", run.DirectMissing)
		}
		if len(run.Diverged) > 0 {
			broken("tables differ on %s", strings.Join(run.Diverged, ", "))
		}
		if run.IdleBroken > 0 {
			broken("%d of %d idle sessions were broken: %s", run.IdleBroken, run.IdleSessions, run.IdleProblem)
		}
		if r.Fault == FaultSwitchover && (run.WritersBroken > 0 || len(run.Errors) > 0) {
			broken("writers saw errors in a switchover: %s, %d connections broken", counts(run.Errors), run.WritersBroken)
		}
	}
	return errors.Join(errs...)
}

// WriteTable prints the report for people.
func (r Report) WriteTable(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "run\tfrom\tto\toutage\tdetect\tvote\tclaim\tpromoted\topen\tcommit\thealed\tlongest\terrors\tbroken\tidle lost\tmissing\tdouble\tpgbench\t\n")
	for _, run := range r.Runs {
		fmt.Fprintf(out, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d/%d\t%d/%d\t%d\t%s\t\n",
			run.Number, run.From, run.To, seconds(run.OutageMS), seconds(run.DetectMS), seconds(run.VoteMS), seconds(run.ClaimMS),
			seconds(run.PromoteMS), seconds(run.OpenMS), seconds(run.FirstCommitMS), seconds(run.HealedMS), seconds(run.WaitedMS), counts(run.Errors), run.WritersBroken,
			run.IdleBroken, run.IdleSessions, run.MissingCount, run.Acknowledged, run.DuplicateCount, seconds(run.Pgbench.OutageMS))
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	_, err := fmt.Fprintf(w, "%s: outage median %s, maximum %s; %d acknowledged rows missing\n",
		r.Fault, seconds(r.MedianOutageMS), seconds(r.MaxOutageMS), r.Missing)
	return err
}

func seconds(milliseconds float64) string {
	if milliseconds < 0 {
		return "never"
	}
	return fmt.Sprintf("%.3fs", milliseconds/1000)
}

// counts prints a count per code, in a stable order.
func counts(by map[string]int) string {
	if len(by) == 0 {
		return "0"
	}
	var list []string
	for _, code := range slices.Sorted(maps.Keys(by)) {
		list = append(list, fmt.Sprintf("%s:%d", code, by[code]))
	}
	return strings.Join(list, " ")
}

// save writes the report as JSON and HTML into the folder.
func (r Report) save(dir string) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	page, err := r.html()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save report: %w", err)
	}
	name := filepath.Join(dir, string(r.Fault))
	return errors.Join(os.WriteFile(name+".json", append(content, '\n'), 0o644), os.WriteFile(name+".html", page, 0o644))
}
