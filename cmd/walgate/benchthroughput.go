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
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			cfg.Walgate, cfg.Progress = self, cmd.ErrOrStderr()
			report, err := throughput.Measure(cmd.Context(), cfg)
			if len(report.Lines)+len(report.Idle)+len(report.Crowds) > 0 {
				err = errors.Join(err, report.WriteTable(cmd.OutOrStdout()))
			}
			return errors.Join(err, report.Failed())
		},
	}
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
	f.IntVar(&cfg.Port, "port", cfg.Port, "first of 20 ports")
	f.StringVar(&cfg.Out, "out", cfg.Out, "folder for the JSON and HTML reports")
	return cmd
}
