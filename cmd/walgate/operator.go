package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
	"github.com/walgate/walgate/ha/api"
)

const defaultAPI = "http://127.0.0.1:8008"

// operator are the flags that all verbs toward the API have in common.
type operator struct {
	api       string
	tokenFile string
	output    string
	yes       bool
	timeout   time.Duration
}

func (o *operator) flags(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVar(&o.api, "api", cmp.Or(os.Getenv("WALGATE_API"), defaultAPI), "URL of any node's or proxy's API (WALGATE_API)")
	f.StringVar(&o.tokenFile, "token-file", os.Getenv("WALGATE_TOKEN_FILE"), "file with the API's token (WALGATE_TOKEN_FILE)")
	f.StringVarP(&o.output, "output", "o", "text", "text, or json for programs")
	f.DurationVar(&o.timeout, "timeout", timeout, "limit of the whole verb")
}

func (o *operator) confirmFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
}

// client returns a client of the API at url; empty: of --api.
func (o *operator) client(url string) (*api.Client, error) {
	if o.output != "text" && o.output != "json" {
		return nil, fmt.Errorf("%w: --output %q; allowed: text, json", errUsage, o.output)
	}
	token := ""
	if o.tokenFile != "" {
		var err error
		if token, err = app.ReadSecret(o.tokenFile); err != nil {
			return nil, err
		}
	}
	client, err := api.NewClient(cmp.Or(url, o.api), token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return client, nil
}

// run calls do with a client and a context that ends after --timeout.
func (o *operator) run(cmd *cobra.Command, do func(ctx context.Context, client *api.Client) error) error {
	client, err := o.client("")
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	return do(ctx, client)
}

// print writes body as JSON, or calls text.
func (o *operator) print(out io.Writer, body any, text func(io.Writer)) error {
	if o.output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(body); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return nil
	}
	text(out)
	return nil
}

// confirm asks, unless --yes. Without an answer nothing happens.
func (o *operator) confirm(cmd *cobra.Command, question string) error {
	if o.yes {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && answer == "" {
		return fmt.Errorf("%w: no answer; use --yes where nobody can answer", errUsage)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return fmt.Errorf("%w: not confirmed, nothing was done", errUsage)
	}
	return nil
}

// memberClient returns a client of the named member's own API.
func (o *operator) memberClient(ctx context.Context, client *api.Client, name string) (*api.Client, error) {
	cluster, err := client.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	member, ok := cluster.Member(name)
	if !ok {
		names := make([]string, 0, len(cluster.Members))
		for _, m := range cluster.Members {
			names = append(names, string(m.Name))
		}
		return nil, fmt.Errorf("%w: %s is no member; allowed: %s", errUsage, name, strings.Join(names, ", "))
	}
	return o.client(member.API)
}
