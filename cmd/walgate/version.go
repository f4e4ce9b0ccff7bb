package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: arguments(cobra.NoArgs),
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "walgate "+app.Version()) },
	}
}
