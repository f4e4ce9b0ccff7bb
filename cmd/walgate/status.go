package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/api"
)

func newStatus() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "status", Short: "Show the members of the cluster and who is primary", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				cluster, err := client.Cluster(ctx)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), cluster, func(w io.Writer) { printCluster(w, cluster) })
			})
		},
	}
	o.flags(cmd, 10*time.Second)
	return cmd
}

// printCluster writes the state of the cluster for people.
func printCluster(w io.Writer, c api.Cluster) {
	primary := "none"
	if name := c.PrimaryName(); name != "" {
		primary = name
		if !c.Open {
			primary += " (takes no writes yet)"
		}
	}
	fmt.Fprintf(w, "cluster %s   primary %s   epoch %d   sync %s", c.Cluster, primary, c.Epoch, syncText(c.Sync))
	if c.Paused {
		fmt.Fprint(w, "   PAUSED")
	}
	fmt.Fprintln(w)
	if h := c.Handoff; h != nil {
		fmt.Fprintf(w, "switchover from %s to %s under way: %s\n", h.From, h.To, h.Phase)
	}
	if c.StoreError != "" {
		fmt.Fprintf(w, "the store does not answer, what follows may be old: %s\n", c.StoreError)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tSTATE\tSYNC\tTIMELINE\tREPLAYED\tLAG\tPOSTGRESQL\tAPI")
	for _, m := range c.Members {
		replayed, timeline := "-", "-"
		if m.Replayed != nil {
			replayed = m.Replayed.String()
		}
		if m.Timeline != 0 {
			timeline = fmt.Sprint(m.Timeline)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s:%d\t%s\n", m.Name, m.Role, m.State, orDash(m.SyncState), timeline,
			replayed, lagText(m), m.Host, m.Port, m.API)
	}
	_ = t.Flush() // as any write to standard output
	for _, m := range c.Members {
		if !m.Healthy() && m.Why != "" {
			fmt.Fprintf(w, "%s: %s\n", m.Name, m.Why)
		}
	}
	if len(c.Proxies) > 0 {
		fmt.Fprintln(w)
		t = tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
		fmt.Fprintln(t, "PROXY\tADDRESS\tEPOCH\tSESSIONS\tHELD")
		for _, p := range c.Proxies {
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\n", p.ID, p.Addr, p.Epoch, p.Sessions, p.Held)
		}
		_ = t.Flush()
	}
	if f := c.LastFailover; f != nil {
		fmt.Fprintf(w, "\nlast change of primary: %s to %s at %s, epoch %d, %d ms without a primary: %s\n",
			orDash(string(f.From)), f.To, f.At.Format(time.RFC3339), f.Epoch, f.PauseMS, f.Reason)
	}
}

func syncText(s api.Sync) string {
	switch {
	case s.Mode == "" || s.Mode == ha.SyncOff:
		return string(ha.SyncOff)
	case len(s.Voters) == 0:
		return string(s.Mode) + " (no standby holds commits now)"
	}
	names := make([]string, 0, len(s.Voters))
	for _, v := range s.Voters {
		names = append(names, string(v))
	}
	return fmt.Sprintf("%s (any %d of %s)", s.Mode, s.Quorum, strings.Join(names, ", "))
}

func lagText(m api.Member) string {
	switch {
	case m.Role == "primary":
		return "-"
	case m.LagBytes == nil:
		return "unknown"
	case m.LagMS == nil:
		return fmt.Sprintf("%d B", *m.LagBytes)
	}
	return fmt.Sprintf("%d B, %d ms", *m.LagBytes, *m.LagMS)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newHistory() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "history", Short: "Show the changes of primary", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				events, err := client.History(ctx)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), events, func(w io.Writer) { printHistory(w, events) })
			})
		},
	}
	o.flags(cmd, 10*time.Second)
	return cmd
}

func printHistory(w io.Writer, events []api.Event) {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, "EPOCH\tAT\tFROM\tTO\tTIMELINE\tFORKED AT\tREASON")
	for _, e := range events {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", e.Epoch, e.At.Format(time.RFC3339), orDash(string(e.From)), e.To,
			e.Timeline, e.ForkLSN, e.Reason)
	}
	_ = t.Flush() // as any write to standard output
}
