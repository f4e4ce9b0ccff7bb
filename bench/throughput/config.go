package throughput

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Config describes a measurement.
type Config struct {
	Walgate   string // the program
	PgBouncer string // another PgBouncer than the one in PATH; empty: none
	Dir       string // for data and logs, must not exist; empty: a new one in memory, removed at the end
	Keep      bool   // leave the folder
	Port      int    // first of 40
	Nodes     int    // PostgreSQL servers: a primary, and standbys that stream from it

	Endpoints []string // of Endpoints()
	Workloads []string // NAME or NAME:CLIENTS, of Workloads()
	Clients   []int    // for workloads that name none
	Base      string   // endpoint that the others are compared with; empty: the first of Bases that can do the workload

	Rounds    int
	Seconds   int  // of one run
	Pool      int  // server connections of a pooler
	Rate      int  // transactions per second of the workloads with a fixed rate
	Scale     int  // of pgbench's tables
	Megabytes int  // of one large result or COPY
	Idle      int  // clients that idle; 0: not measured
	IdleTLS   bool // and as many over TLS
	Crowd     int  // clients that all work at once; 0: not measured

	Syscalls bool // an extra run of each workload in which system calls are counted
	Profile  bool // an extra run of each workload in which walgate's CPU is profiled, into Out

	Out      string    // folder for throughput.json, throughput.html and profiles; empty: none are written
	Progress io.Writer // a line for each step; nil: none
}

// DefaultConfig is what `walgate bench throughput` starts from.
func DefaultConfig() Config {
	return Config{
		Walgate: "walgate", Port: 7832, Nodes: 1, Endpoints: slices.DeleteFunc(Endpoints(), forStandbys),
		Workloads: []string{"select-simple", "select-prepared"}, Clients: []int{8, 32},
		Rounds: 5, Seconds: 5, Pool: 20, Rate: 3000, Scale: 10, Megabytes: 10, Syscalls: true,
	}
}

// BalanceConfig is what `walgate bench balance` starts from: reads that may run on standbys, beside pgpool-II.
func BalanceConfig() Config {
	cfg := DefaultConfig()
	cfg.Nodes, cfg.Endpoints, cfg.Base = 3, []string{endpointDirect, endpointWalgate, endpointPgpool}, endpointPgpool
	cfg.Workloads, cfg.Clients = []string{"mix-95", "mix-95-prepared", "mix-90", "mix-90-prepared"}, []int{32}
	cfg.Syscalls = false
	return cfg
}

// LevelsConfig is what `walgate bench levels` starts from: what session costs beside eventual.
func LevelsConfig() Config {
	cfg := BalanceConfig()
	cfg.Endpoints, cfg.Base = []string{endpointWalgate, endpointWalgateEventual}, endpointWalgateEventual
	cfg.Workloads, cfg.Rounds = []string{"update", "tpcb-n", "mix-95", "mix-90"}, 12
	return cfg
}

// ports is how many a measurement takes.
const ports = 40

func (c Config) validate() error {
	for _, e := range c.Endpoints {
		if !slices.Contains(Endpoints(), e) {
			return fmt.Errorf("endpoint %q; known: %s", e, strings.Join(Endpoints(), ", "))
		}
	}
	switch {
	case len(c.Endpoints) == 0:
		return fmt.Errorf("no endpoint; known: %s", strings.Join(Endpoints(), ", "))
	case c.Base != "" && !slices.Contains(c.Endpoints, c.Base):
		return fmt.Errorf("base %q is none of the endpoints", c.Base)
	case c.Nodes < 1 || c.Nodes > maxNodes:
		return fmt.Errorf("%d nodes; allowed: 1 to %d", c.Nodes, maxNodes)
	case c.Port < 1024 || c.Port > 65535-ports:
		return fmt.Errorf("port %d; allowed: 1024 to %d", c.Port, 65535-ports)
	case c.Rounds < 1 || c.Rounds > 1000 || c.Seconds < 1 || c.Seconds > 3600:
		return fmt.Errorf("rounds %d of %d seconds: out of range", c.Rounds, c.Seconds)
	case c.Pool < 1 || c.Pool > 100 || c.Rate < 1 || c.Scale < 1 || c.Scale > 10000 || c.Megabytes < 1 || c.Megabytes > 1000:
		return fmt.Errorf("pool %d, rate %d, scale %d, megabytes %d: out of range", c.Pool, c.Rate, c.Scale, c.Megabytes)
	case c.Idle < 0 || c.Idle > maxIdle:
		return fmt.Errorf("idle clients %d; allowed: 0 to %d", c.Idle, maxIdle)
	case c.Crowd < 0 || c.Crowd > maxIdle:
		return fmt.Errorf("clients that all work at once %d; allowed: 0 to %d", c.Crowd, maxIdle)
	case c.Profile && c.Out == "":
		return fmt.Errorf("profiles need a folder to be written to")
	}
	_, err := c.cells()
	return err
}

// The bounds of clients: PostgreSQL has to serve the busy ones without a pool, too, and all of them come from the ports
// of one address.
const (
	maxClients = 256
	maxIdle    = 20000
	maxNodes   = 3
)

// cell is one workload with one number of clients.
type cell struct {
	work    workload
	clients int
}

func (c cell) String() string { return c.work.name + ":" + strconv.Itoa(c.clients) }

// mostClients is the largest number of clients of a workload.
func (c Config) mostClients() (most int) {
	cells, err := c.cells()
	if err != nil { // validate has told
		return maxClients
	}
	for _, one := range cells {
		most = max(most, one.clients)
	}
	return most
}

// cells returns what is measured, in the order given.
func (c Config) cells() ([]cell, error) {
	var all []cell
	for _, text := range c.Workloads {
		name, count, counted := strings.Cut(text, ":")
		w, ok := findWorkload(name)
		if !ok {
			return nil, fmt.Errorf("workload %q; known: %s", name, strings.Join(Workloads(), ", "))
		}
		counts := c.Clients
		switch {
		case counted:
			n, err := strconv.Atoi(count)
			if err != nil {
				return nil, fmt.Errorf("workload %q: %q is no number of clients", text, count)
			}
			counts = []int{n}
		case w.clients != 0:
			counts = []int{w.clients}
		}
		for _, n := range counts {
			if n < 1 || n > maxClients {
				return nil, fmt.Errorf("%d clients; allowed: 1 to %d", n, maxClients)
			}
			all = append(all, cell{w, n})
		}
	}
	if len(all) == 0 && c.Idle == 0 && c.Crowd == 0 {
		return nil, fmt.Errorf("nothing to measure: neither a workload with clients nor idle clients nor a crowd")
	}
	return all, nil
}

func (c Config) say(format string, args ...any) {
	if c.Progress != nil {
		_, _ = fmt.Fprintf(c.Progress, format+"\n", args...)
	}
}
