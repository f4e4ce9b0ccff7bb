package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/bench"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure what clients feel", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchFailover(), newBenchThroughput(), newBenchBalance(), newBenchLevels())
	return cmd
}

func newBenchFailover() *cobra.Command {
	cfg := bench.DefaultConfig()
	var fault string
	cmd := &cobra.Command{
		Use: "failover", Short: "Break a demo cluster under load and measure the outage", Args: arguments(cobra.NoArgs),
		Long: "Runs pgbench and a fine-grained writer through the sidecar of a demo, injects a fault, waits until every member\n" +
			"streams, and prints the outage, its steps, errors by SQLSTATE, broken sessions, and acknowledged rows that are\n" +
			"missing. Ends with exit code 1 when a row is missing or the cluster did not heal.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			cfg.Walgate, cfg.Fault, cfg.Progress = self, bench.Fault(fault), cmd.ErrOrStderr()
			if cfg.Dir == "" {
				if cfg.Dir, err = os.MkdirTemp("", "walgate-bench-"); err != nil {
					return fmt.Errorf("make a folder: %w", err)
				}
				if err := os.Chmod(cfg.Dir, 0o755); err != nil { //nolint:gosec // the server's user must pass through
					return fmt.Errorf("make a folder: %w", err)
				}
				defer func() { _ = os.RemoveAll(cfg.Dir) }() // the demo in it has been stopped
				cfg.Dir = filepath.Join(cfg.Dir, "demo")
			}
			report, err := bench.Failover(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if err := report.WriteTable(cmd.OutOrStdout()); err != nil {
				return err
			}
			return report.Passed()
		},
	}
	f := cmd.Flags()
	known := make([]string, 0, len(bench.Faults()))
	for _, k := range bench.Faults() {
		known = append(known, string(k))
	}
	f.StringVar(&fault, "fault", string(cfg.Fault), strings.Join(known, ", "))
	f.StringVar(&cfg.Dir, "dir", "", "directory of a demo; default: a new one, removed at the end")
	f.IntVar(&cfg.Port, "port", 7432, "first port of a demo that is started")
	f.StringVar(&cfg.Sync, "sync", cfg.Sync, "quorum, strict or off, of a demo that is started")
	f.IntVar(&cfg.Runs, "runs", cfg.Runs, "how often; median and maximum are printed")
	f.DurationVar(&cfg.Warmup, "warmup", cfg.Warmup, "load before the fault")
	f.DurationVar(&cfg.Tail, "tail", cfg.Tail, "load after the fault")
	f.DurationVar(&cfg.FreezeFor, "freeze", cfg.FreezeFor, "how long processes stand still")
	f.DurationVar(&cfg.Limit, "limit", cfg.Limit, "for the cluster to heal")
	f.IntVar(&cfg.PgbenchClients, "clients", cfg.PgbenchClients, "of pgbench")
	f.IntVar(&cfg.Writers, "writers", cfg.Writers, "connections of the fine-grained writer")
	f.IntVar(&cfg.IdleSessions, "idle", cfg.IdleSessions, "sessions that idle through the fault")
	f.BoolVar(&cfg.Direct, "direct", cfg.Direct, "write past the proxy to every node too, to catch a second writer")
	f.StringVar(&cfg.Out, "out", cfg.Out, "folder for the JSON and HTML reports")
	return cmd
}
