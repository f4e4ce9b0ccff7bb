package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
)

func newDemo() *cobra.Command {
	var o app.DemoOptions
	var detach bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Run a whole cluster on this machine",
		Long: "Runs a cluster of real PostgreSQL processes with an embedded store and one sidecar proxy. Ctrl-C stops everything\n" +
			"and leaves the data for the next start.",
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A flag that is not given means what the demo was made with.
			for name, forget := range map[string]func(){
				"port": func() { o.Port = 0 }, "nodes": func() { o.Nodes = 0 }, "sync": func() { o.Sync = "" },
			} {
				if !cmd.Flags().Changed(name) {
					forget()
				}
			}
			if cmd.Flags().Changed("nodes") && o.Nodes < 1 || cmd.Flags().Changed("port") && o.Port < 1 {
				return fmt.Errorf("%w: --nodes %d --port %d; allowed: positive numbers", app.ErrConfig, o.Nodes, o.Port)
			}
			demo, err := app.NewDemo(o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return demo.Run(cmd.Context(), detach)
		},
	}
	cmd.PersistentFlags().StringVar(&o.Dir, "dir", "", "directory of the demo (default: below the state directory of the user)")
	cmd.Flags().IntVar(&o.Port, "port", 6432, "port of the sidecar; the others follow within a block of 100")
	cmd.Flags().IntVar(&o.Nodes, "nodes", 3, "number of nodes")
	cmd.Flags().StringVar(&o.Sync, "sync", "quorum", "quorum, strict or off")
	cmd.Flags().BoolVar(&detach, "detach", false, "return when every member streams, and leave the demo running")
	cmd.AddCommand(demoNodeVerb(&o, "stop [NODE]", "Stop the demo, or one node", (*app.Demo).Stop),
		demoNodeVerb(&o, "start [NODE]", "Start the demo again, or one node", (*app.Demo).Start), newDemoStatus(&o))
	return cmd
}

// demoNodeVerb is a verb toward one node of the demo, or all of it.
func demoNodeVerb(o *app.DemoOptions, use, short string, verb func(*app.Demo, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			demo, err := app.NewDemo(app.DemoOptions{Dir: o.Dir}, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return verb(demo, cmd.Context(), name)
		},
	}
}

func newDemoStatus(o *app.DemoOptions) *cobra.Command {
	var output operator
	cmd := &cobra.Command{
		Use: "status", Short: "Show the demo's processes and its cluster", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			demo, err := app.NewDemo(app.DemoOptions{Dir: o.Dir}, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			state, err := demo.Status(cmd.Context())
			if err != nil {
				return err
			}
			return output.print(cmd.OutOrStdout(), state, func(w io.Writer) { printDemo(w, state) })
		},
	}
	cmd.Flags().StringVarP(&output.output, "output", "o", "text", "text, or json for programs")
	return cmd
}

func printDemo(w io.Writer, s app.DemoStatus) {
	fmt.Fprintf(w, "sidecar  %s  api %s  pid %s\n", s.Facts.Sidecar.Addr, s.Facts.Sidecar.API, pidText(s.Facts.Sidecar.PID))
	for _, n := range s.Facts.Nodes {
		fmt.Fprintf(w, "%s  proxy %s  postgres %s  api %s  pid %s  guard %s  postmaster %s\n", n.Name, n.Proxy, n.Postgres, n.API,
			pidText(n.PID), pidText(n.GuardPID), pidText(n.PostmasterPID))
	}
	if s.Cluster != nil {
		fmt.Fprintln(w)
		printCluster(w, *s.Cluster)
	}
}

func pidText(pid int) string {
	if pid == 0 {
		return "-"
	}
	return fmt.Sprint(pid)
}
