package proxy_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// psql runs commands on the console as PostgreSQL's own client would.
func (s *setup) psql(t *testing.T, user, password string, commands ...string) (string, error) {
	t.Helper()
	args := []string{"-X", "-A", "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", user, "-d", "walgate"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	cmd := s.pg.command("psql", args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *setup) console(t *testing.T, commands ...string) string {
	t.Helper()
	out, err := s.psql(t, "postgres", "super", commands...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", commands, err, out)
	}
	return out
}

// shows are all SHOWs.
var shows = strings.Fields("POOLS NODE_POOLS CLIENTS SERVERS DATABASES USERS NODES ROUTES PREPARED STATS STATS_TOTALS STATS_AVERAGES " +
	"TOTALS ERRORS LISTS MEM VIEW STATE CONFIG VERSION HELP DNS_HOSTS DNS_ZONES PEERS PEER_POOLS")

func TestConsole(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
		t.Fatal(err)
	}
	for _, name := range shows {
		t.Logf("%s:\n%s", name, s.console(t, "SHOW "+name))
	}
}
