package main

import (
	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
)

// newGuard is started by walgate node, not by people: the postmaster's parent, which kills it at a deadline.
func newGuard() *cobra.Command {
	return &cobra.Command{
		Use: "guard", Hidden: true, DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error { return app.RunGuard(cmd.Context(), args) },
	}
}
