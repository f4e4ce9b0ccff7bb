package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
)

func newCheck() *cobra.Command {
	var proxy bool
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Validate a configuration file without starting anything", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := app.Load(args[0], os.Environ())
			if err != nil {
				return err
			}
			kind := app.KindNode
			if proxy {
				kind = app.KindProxy
			}
			if err := config.Validate(kind); err != nil {
				return err
			}
			if _, err := app.ReadAccess(config.Proxy.Auth); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: valid for walgate %s\n", args[0], kind)
			return nil
		},
	}
	cmd.Flags().BoolVar(&proxy, "proxy", false, "judge it as the file of walgate proxy")
	return cmd
}
