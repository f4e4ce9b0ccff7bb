package main

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
)

func newSecret() *cobra.Command {
	return &cobra.Command{
		Use: "secret [FILE]", Short: "Make a random secret, for cluster.secret_file or api.token_file",
		Long: "Prints a new secret, or writes it to FILE (mode 0600), which must not exist yet.",
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			secret := rand.Text() + rand.Text()
			if len(args) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), secret)
				return nil
			}
			return app.WriteSecret(args[0], secret)
		},
	}
}
