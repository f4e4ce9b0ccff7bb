package bench

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// Fault is what a run does to the cluster.
type Fault string

// The faults.
const (
	FaultSwitchover     Fault = "switchover"      // POST /v1/switchover
	FaultKillPostmaster Fault = "kill-postmaster" // SIGKILL to the postmaster alone
	FaultKillNode       Fault = "kill-node"       // SIGKILL to agent, guard, postmaster and all its children
	FaultFreezeNode     Fault = "freeze-node"     // SIGSTOP to the same, SIGCONT after FreezeFor
	FaultFreezePostgres Fault = "freeze-postgres" // SIGSTOP to the postmaster and its children, SIGCONT to what is left
)

// Faults lists all faults.
func Faults() []Fault {
	return []Fault{FaultSwitchover, FaultKillPostmaster, FaultKillNode, FaultFreezeNode, FaultFreezePostgres}
}

// freezes tells whether the fault stops processes for a time.
func (f Fault) freezes() bool { return f == FaultFreezeNode || f == FaultFreezePostgres }

// Config describes a measurement.
type Config struct {
	Walgate string // the program; needed to start a demo, and a node after FaultKillNode
	Dir     string // of the demo. If it holds no demo.json a demo is started there, and stopped at the end
	Port    int    // of a demo that is started
	Sync    string // quorum, strict or off, of a demo that is started

	Fault Fault
	Runs  int

	Warmup    time.Duration // load before the fault
	Tail      time.Duration // load after the fault, beyond FreezeFor
	FreezeFor time.Duration // how long processes stand still
	Limit     time.Duration // for the cluster to heal after a run's load has ended

	Pgbench        string // the program
	PgbenchClients int    // 0: none
	Writers        int    // connections with one INSERT after the other
	Pace           time.Duration
	IdleSessions   int
	Direct         bool // writers past the proxy to every node's PostgreSQL

	Out      string    // folder for <fault>.json and <fault>.html; empty: none are written
	Progress io.Writer // a line for each step; nil: none
}

// DefaultConfig is what `walgate bench failover` starts from.
func DefaultConfig() Config {
	return Config{
		Walgate: "walgate", Port: 6432, Sync: "quorum", Fault: FaultKillPostmaster, Runs: 3,
		Warmup: 5 * time.Second, Tail: 15 * time.Second, FreezeFor: time.Minute, Limit: 2 * time.Minute,
		Pgbench: "pgbench", PgbenchClients: 16, Writers: 4, Pace: 3 * time.Millisecond, IdleSessions: 4, Direct: true,
	}
}

// maxWriters is what the numbering of rows leaves room for (see rowKey).
const maxWriters = 1 << 10

func (c Config) validate() error {
	switch {
	case !slices.Contains(Faults(), c.Fault):
		return fmt.Errorf("fault %q; known: %v", c.Fault, Faults())
	case c.Dir == "":
		return fmt.Errorf("the folder of the demo is required")
	case c.Runs < 1 || c.Runs > 1000:
		return fmt.Errorf("runs %d; allowed: 1 to 1000", c.Runs)
	case c.Writers < 1 || c.Writers > maxWriters:
		return fmt.Errorf("writers %d; allowed: 1 to %d", c.Writers, maxWriters)
	case c.IdleSessions < 0 || c.IdleSessions > 10000 || c.PgbenchClients < 0 || c.PgbenchClients > 1000:
		return fmt.Errorf("idle sessions %d, pgbench clients %d: out of range", c.IdleSessions, c.PgbenchClients)
	case c.Warmup <= 0 || c.Tail <= 0 || c.Limit <= 0 || c.Pace < 0:
		return fmt.Errorf("warmup, tail and limit must be positive")
	case c.Fault.freezes() && c.FreezeFor <= 0:
		return fmt.Errorf("freeze %v; it must be positive", c.FreezeFor)
	}
	return nil
}

// command is the name of the program as /proc shows it.
func (c Config) command() string {
	name := filepath.Base(c.Walgate)
	return name[:min(len(name), 15)]
}

// load is how long the load of one run lasts.
func (c Config) load() time.Duration {
	if c.Fault.freezes() {
		return c.Warmup + c.FreezeFor + c.Tail
	}
	return c.Warmup + c.Tail
}
