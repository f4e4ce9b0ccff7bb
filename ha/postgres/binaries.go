package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The versions that this package was written for.
const (
	oldestVersion = 13
	newestVersion = 18
)

// distributionDir is where Debian and its kin put one directory a version.
const distributionDir = "/usr/lib/postgresql"

// binaries is a directory of server programs.
type binaries struct {
	dir   string
	major int
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// findBinaries looks for the server programs: in binDir if given, else below distributionDir (the version wanted, or
// the newest when wanted is 0), else on PATH.
func findBinaries(ctx context.Context, binDir string, wanted int) (binaries, error) {
	var candidates, looked []string
	if binDir != "" {
		candidates = []string{binDir}
	} else {
		candidates = distributionDirs()
		looked = append(looked, filepath.Join(distributionDir, "*", "bin"))
		if path, err := exec.LookPath("postgres"); err == nil {
			candidates = append(candidates, filepath.Dir(path))
		}
		looked = append(looked, "PATH")
	}
	var others []string
	for _, dir := range candidates {
		b, err := inspectBinaries(ctx, dir)
		switch {
		case err != nil:
			others = append(others, err.Error())
		case wanted != 0 && b.major != wanted:
			others = append(others, fmt.Sprintf("%s is of version %d, the data directory of %d", dir, b.major, wanted))
		default:
			return b, nil
		}
	}
	if binDir != "" {
		looked = append(looked, binDir)
	}
	detail := ""
	if len(others) > 0 {
		detail = " (" + strings.Join(others, "; ") + ")"
	}
	return binaries{}, fmt.Errorf("looked in %s%s: %w", strings.Join(looked, ", "), detail, ErrNoBinaries)
}

// distributionDirs lists the bin directories below distributionDir, newest version first.
func distributionDirs() []string {
	dirs, err := filepath.Glob(filepath.Join(distributionDir, "*", "bin"))
	if err != nil {
		return nil
	}
	version := func(dir string) int {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			return 0
		}
		return n
	}
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	return dirs
}

// inspectBinaries checks that dir has what is needed, and of which version.
func inspectBinaries(ctx context.Context, dir string) (binaries, error) {
	for _, program := range []string{"postgres", "initdb", "pg_controldata", "pg_basebackup", "pg_rewind", "pg_waldump"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return binaries{}, fmt.Errorf("%s has no %s", dir, program)
		}
	}
	output, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output() //nolint:gosec // ours
	if err != nil {
		return binaries{}, fmt.Errorf("ask %s for its version: %w", dir, err)
	}
	major, err := parseMajor(string(output))
	if err != nil {
		return binaries{}, err
	}
	if major < oldestVersion || major > newestVersion {
		return binaries{}, fmt.Errorf("%s is of version %d, supported are %d to %d", dir, major, oldestVersion, newestVersion)
	}
	return binaries{dir: dir, major: major}, nil
}

// parseMajor reads "postgres (PostgreSQL) 15.18 (Debian ...)"; betas are "16beta1".
func parseMajor(text string) (int, error) {
	_, rest, ok := strings.Cut(text, "(PostgreSQL) ")
	if !ok {
		return 0, fmt.Errorf("no version in %q", text)
	}
	digits := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = rest[:end]
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("no version in %q: %w", text, err)
	}
	return major, nil
}

// binaries returns the programs that fit the data directory. The answer is kept per version.
func (i *Instance) binaries(ctx context.Context) (binaries, error) {
	wanted, err := majorOf(i.cfg.DataDir)
	if err != nil {
		return binaries{}, err
	}
	i.mu.Lock()
	known := i.bins
	i.mu.Unlock()
	if known.dir != "" && (wanted == 0 || wanted == known.major) {
		return known, nil
	}
	b, err := findBinaries(ctx, i.cfg.BinDir, wanted)
	if err != nil {
		return binaries{}, err
	}
	i.mu.Lock()
	i.bins = b
	i.mu.Unlock()
	return b, nil
}

// majorOf reads PG_VERSION; 0 when there is no database cluster.
func majorOf(dataDir string) (int, error) {
	content, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of the data directory: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("read version of the data directory: %w", err)
	}
	return major, nil
}
