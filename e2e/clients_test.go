package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clientLimit bounds one client program; most take a few seconds.
const clientLimit = 3 * time.Minute

// clientProgram is a program below clients/ in the language of its driver. It is given host, port, user, password,
// database and a prefix for the names of its tables, and prints one line per case: "ok NAME: RESULT" or "FAIL NAME: ERROR".
type clientProgram struct {
	name    string
	command []string // with the file, relative to clients/
	needs   []string // a command that ends well if the program can run here
}

var clientPrograms = []clientProgram{
	{name: "psql", command: []string{"bash", "psql.sh"}, needs: []string{"psql", "--version"}},
	{name: "psycopg2", command: []string{"/usr/bin/python3", "psycopg2_client.py"}, needs: []string{"/usr/bin/python3", "-c", "import psycopg2"}},
	{name: "psycopg3", command: []string{"/usr/bin/python3", "psycopg3_client.py"}, needs: []string{"/usr/bin/python3", "-c", "import psycopg"}},
	{name: "asyncpg", command: []string{"/usr/bin/python3", "asyncpg_client.py"}, needs: []string{"/usr/bin/python3", "-c", "import asyncpg"}},
	{name: "sqlalchemy", command: []string{"/usr/bin/python3", "sqlalchemy_client.py"}, needs: []string{"/usr/bin/python3", "-c", "import sqlalchemy, psycopg2"}},
	{name: "node-postgres", command: []string{"node", "node/pg.js"}, needs: []string{"node", "-e", "require('pg-copy-streams')"}},
	{name: "postgres.js", command: []string{"node", "node/postgres.js"}, needs: []string{"node", "-e", "require('postgres')"}},
	{name: "knex", command: []string{"node", "node/knex.js"}, needs: []string{"node", "-e", "require('knex')"}},
	{
		name: "jdbc", command: []string{"java", "-cp", jdbcDriver, "Jdbc.java"}, needs: []string{"sh", "-c", "test -r " + jdbcDriver + " && javac -version"},
	},
}

// jdbcDriver is where Debian puts it.
const jdbcDriver = "/usr/share/java/postgresql.jar"

// TestClients runs each program against PostgreSQL itself and through the sidecar: both runs must print the same.
func TestClients(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 2, "--sync", "off")
	primary := d.awaitHealthy(t).primary()
	for _, program := range clientPrograms {
		t.Run(program.name, func(t *testing.T) {
			requireProgram(t, program)
			direct := d.runClient(t, program, d.node(t, primary).Postgres, "direct")
			for name, line := range direct {
				if strings.HasPrefix(line, "FAIL") {
					t.Errorf("%s does not work against PostgreSQL itself: %s", name, line)
				}
			}
			through := d.runClient(t, program, d.facts(t).Sidecar.Addr, "through")
			if diff := cmp.Diff(direct, through); diff != "" {
				t.Errorf("without (-) and with (+) walgate:\n%s", diff)
			}
		})
	}
}

// requireProgram skips, loudly, what can't run here, unless that is forbidden.
func requireProgram(t *testing.T, program clientProgram) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program.needs[0], program.needs[1:]...)
	cmd.Env = clientEnvironment(t)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
	case ownVariables["WALGATE_REQUIRE_CLIENTS"] == "1":
		t.Fatalf("%s can't run here, and WALGATE_REQUIRE_CLIENTS=1 forbids skipping: %v\n%s", program.name, err, out)
	default:
		t.Skipf("SKIPPED, nothing was tested: %s can't run here; scripts/clients.sh installs what it needs: %v", program.name, err)
	}
}

// runClient returns the lines of one run by the names of their cases.
func (d *Demo) runClient(t *testing.T, program clientProgram, addr, prefix string) map[string]string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	f := d.facts(t)
	ctx, cancel := context.WithTimeout(t.Context(), clientLimit)
	defer cancel()
	args := append(program.command[1:len(program.command):len(program.command)], host, port, f.User, f.Password, f.Database, prefix)
	cmd := exec.CommandContext(ctx, program.command[0], args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "clients", clientEnvironment(t), time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	started := time.Now()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s (%s): %v\n%s%s", program.name, prefix, err, out, &stderr)
	}
	lines := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(string(out), prefix+"_", "")) {
		head, _, _ := strings.Cut(line, ":")
		_, name, ok := strings.Cut(head, " ")
		if !ok || lines[name] != "" {
			t.Fatalf("%s (%s) prints a line that is no new case: %q", program.name, prefix, line)
		}
		lines[name] = strings.TrimSpace(line)
	}
	if len(lines) < 5 {
		t.Fatalf("%s (%s) has only %d cases:\n%s%s", program.name, prefix, len(lines), out, &stderr)
	}
	t.Logf("%s (%s): %d cases in %s", program.name, prefix, len(lines), time.Since(started).Round(time.Millisecond))
	return lines
}

// clientEnvironment leaves no trace in the tree, and finds the packages that scripts/clients.sh installs.
func clientEnvironment(t *testing.T) []string {
	t.Helper()
	packages, err := filepath.Abs("../.cache/clients/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "NODE_NO_WARNINGS=1", fmt.Sprint("NODE_PATH=", packages))
}
