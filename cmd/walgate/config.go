package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/api"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show or change the settings of the whole cluster",
		Long: "The settings of the whole cluster live in its record: ttl, maximum_lag, on_crash, cold_start_wait, sync, and\n" +
			"PostgreSQL parameters. Those of one process are in its file; see walgate check.",
		Args: noSuchCommand, RunE: showHelp,
	}
	cmd.AddCommand(newConfigShow(), newConfigSet(), newConfigEdit())
	return cmd
}

func newConfigShow() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "show", Short: "Show the settings", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				settings, err := client.Settings(ctx)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), settings, func(w io.Writer) { printSettings(w, settings) })
			})
		},
	}
	o.flags(cmd, 10*time.Second)
	return cmd
}

func newConfigSet() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "set NAME=VALUE...", Short: "Change settings",
		Long: "Names are ttl, maximum_lag, on_crash, cold_start_wait, sync, and parameters.NAME for a PostgreSQL parameter.\n" +
			"An empty value removes a parameter.",
		Example: "  walgate config set ttl=10s parameters.work_mem=64MB",
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			patch, err := parsePatch(args)
			if err != nil {
				return err
			}
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				settings, err := client.ChangeSettings(ctx, patch)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), settings, func(w io.Writer) { printSettings(w, settings) })
			})
		},
	}
	o.flags(cmd, 10*time.Second)
	return cmd
}

func parsePatch(args []string) (api.Settings, error) {
	var patch api.Settings
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return patch, fmt.Errorf("%w: %q; allowed: NAME=VALUE", errUsage, arg)
		}
		parameter, isParameter := strings.CutPrefix(name, "parameters.")
		switch {
		case isParameter && parameter != "":
			if patch.Parameters == nil {
				patch.Parameters = map[string]*string{}
			}
			patch.Parameters[parameter] = &value
			if value == "" {
				patch.Parameters[parameter] = nil
			}
		case name == "ttl":
			patch.TTL = &value
		case name == "on_crash":
			patch.OnCrash = &value
		case name == "cold_start_wait":
			patch.ColdStartWait = &value
		case name == "sync":
			mode := ha.SyncMode(value)
			patch.Sync = &mode
		case name == "maximum_lag":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return patch, fmt.Errorf("%w: maximum_lag=%q; allowed: a number of bytes", errUsage, value)
			}
			patch.MaximumLag = &n
		default:
			return patch, fmt.Errorf("%w: %q is no setting; allowed: ttl, maximum_lag, on_crash, cold_start_wait, sync, parameters.NAME", errUsage, name)
		}
	}
	return patch, nil
}

func printSettings(w io.Writer, s api.Settings) {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(s) // as any write to standard output
}

func newConfigEdit() *cobra.Command {
	var o operator
	cmd := &cobra.Command{
		Use: "edit", Short: "Change the settings in an editor (EDITOR)", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd, func(ctx context.Context, client *api.Client) error {
				before, err := client.Settings(ctx)
				if err != nil {
					return err
				}
				after, err := edited(cmd, before)
				if err != nil {
					return err
				}
				if after == nil {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing was changed")
					return nil
				}
				settings, err := client.ChangeSettings(ctx, *after)
				if err != nil {
					return err
				}
				printSettings(cmd.OutOrStdout(), settings)
				return nil
			})
		},
	}
	o.flags(cmd, time.Hour) // of which most is the editor's
	return cmd
}

// edited lets a person edit the settings; nil when nothing was changed. A parameter that was taken out is removed.
func edited(cmd *cobra.Command, before api.Settings) (*api.Settings, error) {
	content, err := json.MarshalIndent(before, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	file, err := os.CreateTemp("", "walgate-*.json")
	if err != nil {
		return nil, fmt.Errorf("make a file to edit: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if _, err = file.Write(append(content, '\n')); err == nil {
		err = file.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("write the file to edit: %w", err)
	}
	words := strings.Fields(cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi"))
	editor := exec.CommandContext(cmd.Context(), words[0], append(words[1:], file.Name())...)
	editor.Stdin, editor.Stdout, editor.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := editor.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w", words[0], err)
	}
	changed, err := os.ReadFile(file.Name())
	if err != nil {
		return nil, fmt.Errorf("read what was edited: %w", err)
	}
	if bytes.Equal(bytes.TrimSpace(changed), content) {
		return nil, nil
	}
	var after api.Settings
	decoder := json.NewDecoder(bytes.NewReader(changed))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&after); err != nil {
		return nil, fmt.Errorf("%w: read what was edited: %w", errUsage, err)
	}
	for name := range before.Parameters {
		if _, ok := after.Parameters[name]; !ok {
			if after.Parameters == nil {
				after.Parameters = map[string]*string{}
			}
			after.Parameters[name] = nil
		}
	}
	return &after, nil
}
