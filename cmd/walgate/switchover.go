package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/ha/api"
)

const handoffTimeout = 90 * time.Second

func newSwitchover() *cobra.Command {
	return moveVerb("switchover", "Move the primary to another member, without an error for clients",
		"Waits until the new primary takes writes and the old one streams from it, or says why not.",
		(*api.Client).Switchover)
}

func newFailover() *cobra.Command {
	return moveVerb("failover", "Move the primary at once, open transactions are ended",
		"As switchover, but transactions that are open on the primary are ended with SQLSTATE 57P01 instead of being waited for.\n"+
			"When the primary is dead there is nothing to ask for: members replace it by themselves, and this verb says what they wait for.",
		(*api.Client).Failover)
}

func moveVerb(use, short, long string, verb func(*api.Client, context.Context, api.SwitchoverRequest) (api.SwitchoverResult, error)) *cobra.Command {
	var o operator
	var request api.SwitchoverRequest
	cmd := &cobra.Command{
		Use: use + " [--to NODE]", Short: short, Long: short + ".\n" + long, Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				cluster, err := client.Cluster(ctx)
				if err != nil {
					return err
				}
				target := request.To
				if target == "" {
					target = "the best standby"
				}
				question := fmt.Sprintf("Move the primary of %s from %s to %s?", cluster.Cluster, orDash(cluster.PrimaryName()), target)
				if err := o.confirm(cmd, question); err != nil {
					return err
				}
				result, err := verb(client, ctx, request)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), result, func(w io.Writer) { printSwitchover(w, result) })
			})
		},
	}
	o.flags(cmd, handoffTimeout)
	o.confirmFlag(cmd)
	cmd.Flags().StringVar(&request.To, "to", "", "the new primary; default: the best standby")
	cmd.Flags().StringVar(&request.From, "from", "", "refuse unless this node is the primary")
	return cmd
}

func printSwitchover(w io.Writer, r api.SwitchoverResult) {
	fmt.Fprintf(w, "%s is the primary (epoch %d), %d ms without one; done in %s\n", r.To, r.Epoch, r.PauseMS, r.Took.Round(time.Millisecond))
	if r.Warning != "" {
		fmt.Fprintf(w, "warning: %s\n", r.Warning)
		return
	}
	fmt.Fprintf(w, "%s streams from it\n", r.From)
}

func newPause() *cobra.Command {
	return clusterVerb("pause", "Stop automatic failover: nothing is promoted, stopped or killed until resume",
		"While the cluster is paused nobody replaces a dead primary.")
}

func newResume() *cobra.Command {
	return clusterVerb("resume", "Resume automatic failover after pause", "")
}

// clusterVerb is a verb without arguments toward the whole cluster.
func clusterVerb(name, short, warning string) *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: name, Short: short, Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				if warning != "" {
					if err := o.confirm(cmd, warning+" Go on?"); err != nil {
						return err
					}
				}
				done, err := client.Verb(ctx, name)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), done, func(w io.Writer) { fmt.Fprintln(w, "the cluster is "+done.Done) })
			})
		},
	}
	o.flags(cmd, 10*time.Second)
	o.confirmFlag(cmd)
	return cmd
}
