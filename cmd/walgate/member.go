package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/ha/api"
)

func newRestart() *cobra.Command {
	return memberVerb("restart", "restart", "Restart PostgreSQL of a standby", "PostgreSQL of %s is restarted.", 2*time.Minute)
}

func newReload() *cobra.Command {
	return memberVerb("reload", "reload", "Let a node read its configuration again", "", time.Minute)
}

func newReinit() *cobra.Command {
	return memberVerb("reinit", "reinitialize", "Set the data of a standby aside and clone it anew",
		"The data directory of %s is renamed and cloned anew.", 2*time.Minute)
}

// memberVerb is a verb toward one member, asked at its own API.
func memberVerb(use, verb, short, question string, timeout time.Duration) *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: use + " NODE", Short: short, Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				member, err := o.memberClient(ctx, client, args[0])
				if err != nil {
					return err
				}
				defer member.Close()
				if question != "" {
					if err := o.confirm(cmd, fmt.Sprintf(question, args[0])+" Go on?"); err != nil {
						return err
					}
				}
				done, err := member.Verb(ctx, verb)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), done, func(w io.Writer) { fmt.Fprintln(w, args[0]+" is "+done.Done) })
			})
		},
	}
	o.flags(cmd, timeout)
	if question != "" {
		o.confirmFlag(cmd)
	}
	return cmd
}
