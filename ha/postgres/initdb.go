package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// locales are tried in this order: where the first is missing, so may be others.
var locales = []string{"C.UTF-8", "en_US.UTF-8", "C"}

// Initdb makes a new database cluster in an absent or empty data directory, with the role walgate in it. An interrupted
// one leaves nothing at the path of the data directory.
func (i *Instance) Initdb(ctx context.Context) error {
	defer i.exclusive()()
	owner, bins, side, err := i.prepareSide(ctx)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	password := i.statePath("initdb-password")
	if err := writeFile(owner, password, []byte(i.cfg.SuperuserPassword+"\n")); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	defer func() { _ = os.Remove(password) }()
	var errs []error
	for _, locale := range locales {
		_, err := i.run(ctx, job{path: bins.path("initdb"), args: []string{
			"-D", side, "-U", Superuser, "--pwfile", password, "--auth", "scram-sha-256",
			"-E", "UTF8", "--locale", locale, "-k",
		}})
		if err == nil {
			errs = nil
			break
		}
		errs = append(errs, fmt.Errorf("locale %s: %w", locale, err))
		if ctx.Err() != nil {
			break
		}
		if err := i.emptySide(owner, side); err != nil {
			return fmt.Errorf("initdb: %w", err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	if err := i.bootstrapRole(ctx, bins, side); err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	return i.installSide(side)
}

// bootstrapRole makes the role walgate in single-user mode, so that the instance can be asked from its first start.
func (i *Instance) bootstrapRole(ctx context.Context, bins binaries, dir string) error {
	verifier, err := newVerifier(i.cfg.Secret.Password(RoleWalgate))
	if err != nil {
		return err
	}
	statement := fmt.Sprintf("CREATE ROLE %s SUPERUSER LOGIN PASSWORD '%s'\n", RoleWalgate, verifier)
	// The control file gets the settings that standbys need at least: initdb ran with its own.
	args := append([]string{"--single", "-D", dir, "-c", "log_min_messages=error"},
		minimums(i.cfg.Parameters, Minimums{}, i.cfg.Members).arguments()...)
	output, err := i.run(ctx, job{
		path: bins.path("postgres"), args: append(args, "postgres"),
		stdin: strings.NewReader(statement),
	})
	if err == nil && strings.Contains(output, "ERROR:") {
		err = errors.New(strings.TrimSpace(output))
	}
	if err != nil {
		return fmt.Errorf("make role %s: %w", RoleWalgate, err)
	}
	return nil
}

// prepareSide checks that the data directory is free and makes an empty directory beside it, in which a database
// cluster is built before it gets its name.
func (i *Instance) prepareSide(ctx context.Context) (*guard.Owner, binaries, string, error) {
	presence, err := presenceOf(i.cfg.DataDir)
	if err != nil {
		return nil, binaries{}, "", err
	}
	if presence != Absent && presence != Empty {
		return nil, binaries{}, "", fmt.Errorf("%s: %w", i.cfg.DataDir, ErrNotEmpty)
	}
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return nil, binaries{}, "", err
	}
	bins, err := i.binaries(ctx)
	if err != nil {
		return nil, binaries{}, "", err
	}
	if err := i.makeDirs(owner); err != nil {
		return nil, binaries{}, "", err
	}
	side := i.cfg.DataDir + ".new"
	if err := i.emptySide(owner, side); err != nil {
		return nil, binaries{}, "", err
	}
	return owner, bins, side, nil
}

// emptySide removes what an interrupted run left: it was never complete.
func (i *Instance) emptySide(owner *guard.Owner, side string) error {
	if err := os.RemoveAll(side); err != nil {
		return fmt.Errorf("clear %s: %w", side, err)
	}
	return makeDir(owner, side)
}

// installSide gives the finished directory its name.
func (i *Instance) installSide(side string) error {
	if err := os.Remove(i.cfg.DataDir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the data directory cannot be replaced (a mount point? use a directory below it): %w", err)
	}
	if err := os.Rename(side, i.cfg.DataDir); err != nil {
		return fmt.Errorf("name the new data directory: %w", err)
	}
	return syncDir(filepath.Dir(i.cfg.DataDir))
}

// makeDirs makes the directories that walgate owns.
func (i *Instance) makeDirs(owner *guard.Owner) error {
	for _, dir := range []string{i.cfg.StateDir, i.cfg.RunDir} {
		if err := makeDir(owner, dir); err != nil {
			return err
		}
	}
	return nil
}
