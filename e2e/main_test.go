package e2e

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// The places of one run of the package; set by TestMain, read by all tests.
var (
	binary    string // the walgate under test
	root      string // every file that a test makes lies below; user postgres may traverse it
	raceBuilt bool   // binary reports data races below root/race
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if reason := cannotRun(); reason != "" {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" {
			fmt.Fprintln(os.Stderr, "e2e: "+reason+", and WALGATE_REQUIRE_POSTGRES=1 forbids skipping")
			return 1
		}
		skipReason = reason
		return m.Run()
	}
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		return 1
	}
	code := m.Run()
	if left := endLeftovers(); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "e2e: processes were left behind:\n%s\n", strings.Join(left, "\n"))
		code = max(code, 1)
	}
	if races := raceReports(filepath.Join(root, "race")); races != "" {
		fmt.Fprintf(os.Stderr, "e2e: data races in the processes under test:\n%s\n", races)
		code = max(code, 1)
	}
	if err := os.RemoveAll(root); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: remove %s: %v\n", root, err)
		code = max(code, 1)
	}
	return code
}

// skipReason is why no test can run here; empty when they can.
var skipReason string

// requireCluster skips the test, loudly, when this machine can run no cluster.
func requireCluster(t *testing.T) {
	t.Helper()
	if skipReason != "" {
		t.Skip("SKIPPED, nothing was tested: " + skipReason)
	}
	if testing.Short() {
		t.Skip("SKIPPED, nothing was tested: -short")
	}
}

func cannotRun() string {
	if _, err := postgresBinary("initdb"); err != nil {
		return err.Error()
	}
	if os.Geteuid() == 0 {
		if _, err := postgresUser(); err != nil {
			return "PostgreSQL refuses to run as root, and " + err.Error()
		}
	}
	return ""
}

// postgresBinary finds a program of PostgreSQL: in the newest installed version, then in PATH.
func postgresBinary(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", name, err)
	}
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL binaries: %w", err)
	}
	return path, nil
}

// prepare makes the root of all files and the binary under test.
func prepare() error {
	var err error
	// Not os.TempDir: socket paths are limited to 107 bytes, and every directory above must be traversable.
	if root, err = os.MkdirTemp("/tmp", "wg-e2e-"); err != nil {
		return fmt.Errorf("make root: %w", err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		return fmt.Errorf("open root to user postgres: %w", err)
	}
	races := filepath.Join(root, "race")
	if err := errors.Join(os.Mkdir(races, 0o777), os.Chmod(races, 0o777)); err != nil {
		return fmt.Errorf("make directory of race reports: %w", err)
	}
	if err := os.Setenv("GORACE", "log_path="+filepath.Join(races, "report")+" halt_on_error=0"); err != nil {
		return fmt.Errorf("set GORACE: %w", err)
	}
	if binary = os.Getenv("WALGATE_E2E_BINARY"); binary != "" {
		if binary, err = filepath.Abs(binary); err != nil {
			return fmt.Errorf("find WALGATE_E2E_BINARY: %w", err)
		}
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return fmt.Errorf("look at WALGATE_E2E_BINARY: %w", err)
		}
		raceBuilt = slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
		return unsetOwn()
	}
	binary, raceBuilt = filepath.Join(root, "walgate"), true
	started := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-race", "-o", binary, "github.com/walgate/walgate/cmd/walgate")
	if output, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("build walgate: %w\n%s", err, output), os.RemoveAll(root))
	}
	if testing.Verbose() {
		fmt.Printf("built walgate in %s\n", time.Since(started).Round(time.Millisecond))
	}
	return unsetOwn()
}

// unsetOwn takes the variables of this package out of the environment: walgate refuses variables that name no key.
func unsetOwn() error {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "WALGATE_E2E_") || strings.HasPrefix(name, "WALGATE_REQUIRE_") {
			ownVariables[name] = os.Getenv(name)
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("unset %s: %w", name, err)
			}
		}
	}
	return nil
}

// ownVariables are the variables that unsetOwn removed.
var ownVariables = map[string]string{}

// endLeftovers names every process of this run that is still alive, and kills it.
func endLeftovers() []string {
	var left []string
	for _, p := range processesBelow(root) {
		left = append(left, p.String())
		p.kill()
	}
	return left
}

var racePattern = regexp.MustCompile(`(?m)^WARNING: DATA RACE`)

// raceReports returns what the race detector wrote, cut to a size that people read.
func raceReports(dir string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // a malformed pattern is the only error
	var all strings.Builder
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil {
			fmt.Fprintf(&all, "%s (%d races)\n%s\n", filepath.Base(file), len(racePattern.FindAll(content, -1)), cut(content, 8<<10))
		}
	}
	return all.String()
}

func cut(content []byte, limit int) string {
	if len(content) > limit {
		return string(content[:limit]) + "\n[cut]"
	}
	return string(content)
}
