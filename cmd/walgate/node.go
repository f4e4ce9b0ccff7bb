package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
)

func newNode() *cobra.Command {
	var file, demo string
	cmd := &cobra.Command{
		Use: "node --config FILE", Short: "Run PostgreSQL as a member of a cluster, with its proxy and API", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := load(file)
			if err != nil {
				return err
			}
			return app.RunNode(cmd.Context(), config, file, demo, os.Stderr)
		},
	}
	cmd.Flags().StringVar(&file, "config", os.Getenv("WALGATE_CONFIG"), "configuration file (WALGATE_CONFIG)")
	cmd.Flags().StringVar(&demo, "demo", "", "directory of the demo that this node belongs to")
	_ = cmd.Flags().MarkHidden("demo") // the flag exists
	return cmd
}

func newProxy() *cobra.Command {
	var file string
	var takeOver bool
	cmd := &cobra.Command{
		Use: "proxy --config FILE", Short: "Run a stateless proxy of a cluster, with its API", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := load(file)
			if err != nil {
				return err
			}
			return app.RunProxy(cmd.Context(), config, file, takeOver, os.Stderr)
		},
	}
	cmd.Flags().StringVar(&file, "config", os.Getenv("WALGATE_CONFIG"), "configuration file (WALGATE_CONFIG)")
	cmd.Flags().BoolVar(&takeOver, "takeover", false, "take over from the process that runs with this configuration, if there is one, without a client noticing")
	return cmd
}

func load(file string) (app.Config, error) {
	if file == "" {
		return app.Config{}, fmt.Errorf("%w: --config FILE is missing", errUsage)
	}
	return app.Load(file, os.Environ())
}
