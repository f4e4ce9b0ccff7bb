package throughput

import (
	"cmp"
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

// Report is the outcome of a measurement.
type Report struct {
	Began     time.Time         `json:"began"`
	CPUs      int               `json:"cpus"`
	Pool      int               `json:"pool"`
	Rounds    int               `json:"rounds"`
	Seconds   int               `json:"seconds"`
	Rate      int               `json:"rate"`
	Nodes     int               `json:"nodes"`
	Scale     int               `json:"scale"`
	Megabytes int               `json:"megabytes"`
	Versions  map[string]string `json:"versions"` // by endpoint
	Skipped   map[string]string `json:"skipped"`  // why, by endpoint

	Lines    []Line     `json:"lines"`
	Syscalls []Syscalls `json:"syscalls"`
	Idle     []Idle     `json:"idle"`
	Crowds   []Crowd    `json:"crowds"`
	Samples  []Sample   `json:"samples"`
}

// Sample is one run. Times are by transaction; CPU and switches of bulk workloads are by megabyte.
type Sample struct {
	Round    int    `json:"round"`
	Endpoint string `json:"endpoint"`
	Workload string `json:"workload"`
	Clients  int    `json:"clients"`
	Problem  string `json:"problem,omitempty"` // why there are no figures

	Transactions    int     `json:"transactions"`
	TPS             float64 `json:"tps"`
	AverageMS       float64 `json:"average_ms"`
	P50MS           float64 `json:"p50_ms"`
	P95MS           float64 `json:"p95_ms"`
	P99MS           float64 `json:"p99_ms"`
	CPUMicros       float64 `json:"cpu_micros"`        // of the proxy's process, user and system
	ServerCPUMicros float64 `json:"server_cpu_micros"` // of PostgreSQL's processes
	Switches        float64 `json:"switches"`          // of context, of the proxy
	ResidentBytes   int64   `json:"resident_bytes"`    // of the proxy, at the end

	// Reads of a mix, by PostgreSQL's own count, and those of them that ran on standbys; 0 where they are not counted.
	Reads        int64 `json:"reads"`
	StandbyReads int64 `json:"standby_reads"`
}

// offloaded is the share of the reads that ran on standbys, in percent.
func (s Sample) offloaded() float64 {
	if s.Reads == 0 {
		return 0
	}
	return 100 * float64(s.StandbyReads) / float64(s.Reads)
}

// where says where the reads ran, if they were counted.
func (s Sample) where() string {
	if s.Reads == 0 {
		return ""
	}
	return fmt.Sprintf("%5.1f %% of the reads on standbys  ", s.offloaded())
}

// Line is what all rounds say of one workload on one endpoint: medians, and the ratio to the base.
type Line struct {
	Workload string `json:"workload"`
	Clients  int    `json:"clients"`
	Bulk     bool   `json:"bulk"`
	Endpoint string `json:"endpoint"`
	Runs     int    `json:"runs"`
	Problem  string `json:"problem,omitempty"` // of a run that failed

	TPS             float64 `json:"tps"`
	AverageMS       float64 `json:"average_ms"`
	P50MS           float64 `json:"p50_ms"`
	P95MS           float64 `json:"p95_ms"`
	P99MS           float64 `json:"p99_ms"`
	CPUMicros       float64 `json:"cpu_micros"`
	ServerCPUMicros float64 `json:"server_cpu_micros"`
	Switches        float64 `json:"switches"`
	ResidentBytes   float64 `json:"resident_bytes"`
	Offloaded       float64 `json:"offloaded_percent"` // of the reads of a mix, to standbys

	Base   string `json:"base"` // endpoint; empty: none could do it
	CPU    Ratio  `json:"cpu_ratio"`
	Speed  Ratio  `json:"tps_ratio"`
	Server Ratio  `json:"server_cpu_ratio"`
}

// Ratio is the median of the ratios of two runs of the same round, with their spread: quartiles, of less than five rounds
// minimum and maximum. All are 0 when there is nothing to compare.
type Ratio struct {
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	All    []float64 `json:"all"` // sorted
}

func (r Ratio) String() string {
	if len(r.All) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", r.Median, r.Low, r.High)
}

func ratioOf(all []float64) Ratio {
	slices.Sort(all)
	r := Ratio{All: all, Median: quantile(all, 0.5), Low: quantile(all, 0), High: quantile(all, 1)}
	if len(all) >= 5 {
		r.Low, r.High = quantile(all, 0.25), quantile(all, 0.75)
	}
	return r
}

// quantile interpolates between sorted values; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// runsOf are the samples of one cell on one endpoint.
type runsOf struct {
	workload string
	clients  int
	endpoint string
}

// summarize fills the lines from the samples, in the order in which the cells were first measured.
func (r *Report) summarize(base string) {
	groups := map[runsOf][]Sample{}
	var order []runsOf
	for _, s := range r.Samples {
		key := runsOf{s.Workload, s.Clients, s.Endpoint}
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], s)
	}
	slices.SortStableFunc(order, func(a, b runsOf) int { // endpoints were in an order of chance
		if a.workload != b.workload || a.clients != b.clients {
			return 0
		}
		return cmp.Compare(slices.Index(Endpoints(), a.endpoint), slices.Index(Endpoints(), b.endpoint))
	})
	r.Lines = nil
	for _, key := range order {
		r.Lines = append(r.Lines, lineOf(key, groups, base))
	}
}

func lineOf(key runsOf, groups map[runsOf][]Sample, base string) Line {
	w, _ := findWorkload(key.workload) // it was measured
	l := Line{Workload: key.workload, Clients: key.clients, Endpoint: key.endpoint, Bulk: w.bulk()}
	good := map[int]Sample{}
	for _, s := range groups[key] {
		if s.Problem != "" {
			l.Problem = s.Problem
			continue
		}
		good[s.Round] = s
	}
	l.Runs = len(good)
	middle := func(figure func(Sample) float64) float64 {
		var all []float64
		for _, s := range good {
			all = append(all, figure(s))
		}
		slices.Sort(all)
		return quantile(all, 0.5)
	}
	l.TPS, l.AverageMS = middle(func(s Sample) float64 { return s.TPS }), middle(func(s Sample) float64 { return s.AverageMS })
	l.P50MS, l.P95MS = middle(func(s Sample) float64 { return s.P50MS }), middle(func(s Sample) float64 { return s.P95MS })
	l.P99MS = middle(func(s Sample) float64 { return s.P99MS })
	l.CPUMicros, l.Switches = middle(func(s Sample) float64 { return s.CPUMicros }), middle(func(s Sample) float64 { return s.Switches })
	l.ServerCPUMicros = middle(func(s Sample) float64 { return s.ServerCPUMicros })
	l.ResidentBytes = middle(func(s Sample) float64 { return float64(s.ResidentBytes) })

	l.Offloaded = middle(Sample.offloaded)

	for _, name := range append([]string{base}, Bases()...) {
		if len(groups[runsOf{key.workload, key.clients, name}]) > 0 && (base == "" || name == base) {
			l.Base = name
			break
		}
	}
	against := groups[runsOf{key.workload, key.clients, l.Base}]
	paired := func(figure func(Sample) float64) Ratio {
		var all []float64
		for _, other := range against {
			if own, ok := good[other.Round]; ok && other.Problem == "" && figure(other) > 0 && figure(own) > 0 {
				all = append(all, figure(own)/figure(other))
			}
		}
		return ratioOf(all)
	}
	l.CPU = paired(func(s Sample) float64 { return s.CPUMicros })
	l.Speed = paired(func(s Sample) float64 { return s.TPS })
	l.Server = paired(func(s Sample) float64 { return s.ServerCPUMicros })
	return l
}

// WriteTable prints the report for people.
func (r Report) WriteTable(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "workload\tclients\tendpoint\tCPU us\tratio (spread)\tto\ttps\tratio (spread)\tp50 ms\tp95\tp99\tserver us\tswitches\tRSS MB\tstandby reads %%\t\n")
	for _, l := range r.Lines {
		fmt.Fprintf(out, "%s\t%d\t%s\t%.1f\t%s\t%s\t%.0f\t%s\t%.3f\t%.3f\t%.3f\t%.1f\t%.2f\t%.1f\t%.1f\t%s\n", l.name(), l.Clients, l.Endpoint, l.CPUMicros,
			l.CPU, l.Base, l.TPS, l.Speed, l.P50MS, l.P95MS, l.P99MS, l.ServerCPUMicros, l.Switches, l.ResidentBytes/(1<<20), l.Offloaded, l.Problem)
	}
	if len(r.Syscalls) > 0 {
		fmt.Fprintf(out, "\n\ncalls of\tclients\tendpoint\ttotal\tread\twrite\twait\tepoll_ctl\tfutex\tsleep\tother\tcounted by\t\n")
	}
	for _, s := range r.Syscalls {
		fmt.Fprintf(out, "%s\t%d\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%s\n", s.Workload, s.Clients, s.Endpoint, s.Total, s.Read, s.Write,
			s.Wait, s.Control, s.Futex, s.Sleep, s.Other, s.Tool, s.Problem)
	}
	if len(r.Idle) > 0 {
		fmt.Fprintf(out, "\n\nidle\tclients\tendpoint\tkB fresh\tkB used\tCPU %%\tlogin us\tRSS before MB\t\n")
	}
	for _, i := range r.Idle {
		fmt.Fprintf(out, "%s\t%d\t%s\t%.2f\t%.2f\t%.2f\t%.0f\t%.1f\t%s\n", i.how(), i.Clients, i.Endpoint, i.FreshBytes/1024, i.UsedBytes/1024, i.CPUPercent, i.LoginMicros,
			float64(i.BeforeBytes)/(1<<20), i.Problem)
	}
	if len(r.Crowds) > 0 {
		fmt.Fprintf(out, "\n\ncrowd\tclients\tendpoint\ttps\tp50 ms\tp99\tmax\tturns of a client: least\tmedian\tmost\tCPU us\t\n")
	}
	for _, c := range r.Crowds {
		fmt.Fprintf(out, "\t%d\t%s\t%.0f\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\t%.0f\t%.1f\t%s\n", c.Clients, c.Endpoint, c.TPS, c.P50MS, c.P99MS, c.MaxMS,
			c.LeastTurns, c.MedianTurns, c.MostTurns, c.CPUMicros, c.Problem)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Skipped)) {
		if _, err := fmt.Fprintf(w, "SKIPPED %s: %s\n", name, r.Skipped[name]); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}

// name says by what the costs are counted.
func (l Line) name() string {
	if l.Bulk {
		return l.Workload + " (by MB)"
	}
	return l.Workload
}

// Failed returns what went wrong in runs; nil when every one has figures.
func (r Report) Failed() error {
	var problems []string
	for _, s := range r.Samples {
		if s.Problem != "" {
			problems = append(problems, fmt.Sprintf("round %d, %s:%d on %s: %s", s.Round, s.Workload, s.Clients, s.Endpoint, s.Problem))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "\n"))
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
	name := filepath.Join(dir, "throughput")
	return errors.Join(os.WriteFile(name+".json", append(content, '\n'), 0o644), os.WriteFile(name+".html", page, 0o644))
}
