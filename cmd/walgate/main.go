// Command walgate runs a node, a proxy or a demo cluster, and carries an operator's verbs to the API. The verbs parse
// flags, make a context that ends with a signal, and call package app or the API's client; nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/cmd/walgate/app"
	"github.com/walgate/walgate/ha/api"
)

// Exit codes; docs/configuration.md lists them.
const (
	exitOther       = 1
	exitUsage       = 2
	exitConfig      = 3
	exitUnreachable = 4
	exitRefused     = 5
	exitUnfinished  = 6
	exitMachine     = 7
)

// errUsage is wrapped by errors about the command line.
var errUsage = errors.New("usage")

func main() {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { // ends with the process
		if <-signals == syscall.SIGINT {
			cancel(app.ErrInterrupted)
		}
		cancel(app.ErrTerminated)
	}()
	err := newRoot().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "walgate: %v\n", err)
		os.Exit(exitCode(err))
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "walgate",
		Short: "A connection pooler and proxy for PostgreSQL that also keeps it highly available",
		Long: "walgate runs beside PostgreSQL (walgate node) or beside applications (walgate proxy).\n" +
			"walgate demo runs a whole cluster on this machine.",
		SilenceUsage: true, SilenceErrors: true, Args: noSuchCommand, RunE: showHelp,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(
		newNode(), newProxy(), newDemo(), newGuard(),
		newStatus(), newHistory(), newBench(), newSwitchover(), newFailover(), newPause(), newResume(), newRestart(), newReload(),
		newReinit(), newConfig(), newCheck(), newSecret(), newVersion(),
	)
	return root
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// noSuchCommand refuses arguments of a command that only has subcommands.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(", did you mean %q?", near[0])
	}
	return fmt.Errorf("%w: unknown command %q for %q%s", errUsage, args[0], cmd.CommandPath(), hint)
}

// exitCode says by the error what kind of thing went wrong.
func exitCode(err error) int {
	var refused *api.RefusedError
	switch {
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, app.ErrConfig):
		return exitConfig
	case errors.Is(err, app.ErrMachine):
		return exitMachine
	case errors.As(err, &refused) && refused.Status == 504, errors.Is(err, context.DeadlineExceeded):
		return exitUnfinished
	case errors.As(err, &refused):
		return exitRefused
	case errors.Is(err, api.ErrUnreachable):
		return exitUnreachable
	default:
		return exitOther
	}
}

// arguments wraps cobra's check of positional arguments so that its errors count as wrong use.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return nil
	}
}
