package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/bench/throughput"
)

func newBenchThroughput() *cobra.Command {
	cfg := throughput.DefaultConfig()
	cmd := &cobra.Command{
		Use: "throughput", Short: "Measure what a proxy costs, walgate's beside others'", Args: arguments(cobra.NoArgs),
		Long: "Starts PostgreSQL, walgate's proxy, and those of PgBouncer and HAProxy that this machine has, loads them with pgbench\n" +
			"one after the other in every round, and prints CPU per transaction of each proxy, its ratio to the base in the same\n" +
			"round, latencies, system calls and memory. Ends with exit code 1 when a run failed.\n\n" +
			"Endpoints: " + strings.Join(throughput.Endpoints(), ", ") + ".\n" +
			"Workloads: " + strings.Join(throughput.Workloads(), ", ") + "; each may be followed by :CLIENTS.",
		Example: "  walgate bench throughput --workloads select-simple,select-prepared:32,copy-in --clients 8,32 --out report",
		RunE:    measure(&cfg),
	}
	throughputFlags(cmd, &cfg)
	return cmd
}

func newBenchBalance() *cobra.Command {
	cfg := throughput.BalanceConfig()
	cmd := &cobra.Command{
		Use: "balance", Short: "Measure a read-heavy mix on a primary and standbys, beside pgpool-II", Args: arguments(cobra.NoArgs),
		Long: "Starts a primary and two standbys, walgate's proxy (session consistency) and pgpool-II (load balancing on) in front of\n" +
			"the same three, and loads them with pgbench one after the other in every round. Prints what bench throughput prints,\n" +
			"and the share of the reads that ran on standbys, as the servers count them.",
		Example: "  walgate bench balance --workloads mix-95,mix-95-prepared:8 --rounds 7 --out report",
		RunE:    measure(&cfg),
	}
	throughputFlags(cmd, &cfg)
	return cmd
}

func newBenchLevels() *cobra.Command {
	cfg := throughput.LevelsConfig()
	cmd := &cobra.Command{
		Use: "levels", Short: "Measure what session consistency costs beside eventual", Args: arguments(cobra.NoArgs),
		Long: "Starts a primary and two standbys and two of walgate's proxies, one whose sessions are at session, one at eventual, and\n" +
			"loads them with pgbench one after the other in every round: writes, where the proxy's CPU is compared, and mixes, where\n" +
			"the share of the reads on standbys tells too.",
		Example: "  walgate bench levels --workloads update,tpcb-n --rounds 20 --out report",
		RunE:    measure(&cfg),
	}
	throughputFlags(cmd, &cfg)
	return cmd
}

// measure carries out the measurement that flags have described.
func measure(cfg *throughput.Config) func(cmd *cobra.Command, _ []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		cfg.Walgate, cfg.Progress = self, cmd.ErrOrStderr()
		report, err := throughput.Measure(cmd.Context(), *cfg)
		if len(report.Lines)+len(report.Idle)+len(report.Crowds) > 0 {
			err = errors.Join(err, report.WriteTable(cmd.OutOrStdout()))
		}
		return errors.Join(err, report.Failed())
	}
}

// throughputFlags adds those of every measurement with rounds.
func throughputFlags(cmd *cobra.Command, cfg *throughput.Config) {
	f := cmd.Flags()
	f.StringSliceVar(&cfg.Endpoints, "endpoints", cfg.Endpoints, "what is measured")
	f.StringSliceVar(&cfg.Workloads, "workloads", cfg.Workloads, "what clients do, NAME or NAME:CLIENTS")
	f.IntSliceVar(&cfg.Clients, "clients", cfg.Clients, "numbers of clients, for workloads that name none")
	f.StringVar(&cfg.Base, "base", cfg.Base, "endpoint that the others are compared with; default: the newest PgBouncer that can do the workload")
	f.IntVar(&cfg.Rounds, "rounds", cfg.Rounds, "how often each run is made")
	f.IntVar(&cfg.Seconds, "seconds", cfg.Seconds, "length of a run")
	f.IntVar(&cfg.Pool, "pool", cfg.Pool, "server connections of a pooler")
	f.IntVar(&cfg.Rate, "rate", cfg.Rate, "transactions per second of the workloads with a fixed rate")
	f.IntVar(&cfg.Scale, "scale", cfg.Scale, "of pgbench's tables")
	f.IntVar(&cfg.Megabytes, "megabytes", cfg.Megabytes, "size of a large result or COPY")
	f.IntVar(&cfg.Idle, "idle", cfg.Idle, "clients that idle, to measure memory; 0: none")
	f.BoolVar(&cfg.IdleTLS, "idle-tls", cfg.IdleTLS, "measure as many idle clients over TLS too")
	f.IntVar(&cfg.Crowd, "crowd", cfg.Crowd, "clients that all work at once, to measure waits and fairness; 0: none")
	f.StringVar(&cfg.PgBouncer, "pgbouncer", cfg.PgBouncer, "another PgBouncer than the one in PATH, for the endpoint pgbouncer-other")
	f.BoolVar(&cfg.Syscalls, "syscalls", cfg.Syscalls, "count system calls in an extra run of each workload")
	f.BoolVar(&cfg.Profile, "profile", cfg.Profile, "profile walgate's CPU in an extra run of each workload, into --out")
	f.StringVar(&cfg.Dir, "dir", cfg.Dir, "folder for data and logs, which must not exist; default: a new one in memory")
	f.BoolVar(&cfg.Keep, "keep", cfg.Keep, "leave that folder at the end")
	f.IntVar(&cfg.Port, "port", cfg.Port, "first of 40 ports")
	f.IntVar(&cfg.Nodes, "nodes", cfg.Nodes, "PostgreSQL servers, 1 to 3: a primary and standbys")
	f.StringVar(&cfg.Out, "out", cfg.Out, "folder for the JSON and HTML reports")
}
