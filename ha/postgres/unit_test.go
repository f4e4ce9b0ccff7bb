package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walgate/walgate/replication"
)

func TestSlotName(t *testing.T) {
	seen := make(map[string]bool)
	for _, node := range []replication.NodeID{"n1", "a-b", "a_b", "A_b", "a.b", replication.NodeID(strings.Repeat("x", 80)),
		replication.NodeID(strings.Repeat("x", 81))} {
		name := SlotName(node)
		if len(name) > 63 || seen[name] || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("slot of %q is %q", node, name)
		}
		seen[name] = true
	}
	if got := SlotName("n1"); got != "walgate_n1" {
		t.Errorf("slot of n1 is %q", got)
	}
}

func TestRecordEnd(t *testing.T) {
	lsn := func(s string) replication.LSN {
		l, err := replication.ParseLSN(s)
		must(t, err)
		return l
	}
	const head = "rmgr: XLOG        len (rec/tot): "
	for name, c := range map[string]struct{ line, want string }{
		"shutdown checkpoint": {head + "   114/   114, tx:          0, lsn: 0/030000D8, prev 0/03000060, desc: CHECKPOINT_SHUTDOWN redo", "0/3000150"},
		"ends at a page":      {head + "  8168/  8168, tx:          0, lsn: 0/03000018, prev 0/03000060, desc: FPI ", "0/3002000"},
		"over a page":         {head + "   100/   100, tx:          0, lsn: 0/03001FF8, prev 0/03000060, desc: FPI ", "0/3002078"},
		"over a segment":      {head + "   100/   100, tx:          0, lsn: 0/03FFFFF8, prev 0/03000060, desc: FPI ", "0/4000088"},
		"switch":              {head + "    24/    24, tx:          0, lsn: 0/03001000, prev 0/03000060, desc: SWITCH ", "0/4000000"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := parseRecord(c.line)
			must(t, err)
			if got := r.end(16 << 20); got != lsn(c.want) {
				t.Errorf("end %s, want %s", got, c.want)
			}
		})
	}
	if _, err := parseRecord("rmgr: nonsense"); err == nil {
		t.Error("nonsense was read as a record")
	}
}

func TestVerifier(t *testing.T) {
	v, err := newVerifier("password")
	must(t, err)
	if !matches(v, "password") || matches(v, "Password") || matches("md5abc", "password") || matches("", "") {
		t.Errorf("verifier %q", v)
	}
	// RFC 7677, section 3, gives salt, count and the exchange of user "pencil"; the verifier is PostgreSQL's form of it.
	known, err := buildVerifier("pencil", []byte("0123456789abcdef"), 4096)
	must(t, err)
	if !strings.HasPrefix(known, "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$") {
		t.Errorf("verifier %q", known)
	}
}

func TestSecretHides(t *testing.T) {
	s := NewSecret("c", []byte("0123456789abcdef"))
	if got := s.Password("walgate"); len(got) != 43 || got == NewSecret("d", []byte("0123456789abcdef")).Password("walgate") ||
		got == s.Password("walgate_rewind") {
		t.Errorf("password %q", got)
	}
	if s.String() != "[secret]" || s.GoString() != "[secret]" {
		t.Error("the secret prints")
	}
}

func TestParameters(t *testing.T) {
	for name, c := range map[string]struct {
		parameters map[string]string
		ok         bool
	}{
		"fine":            {map[string]string{"work_mem": "4MB", "pg_stat_statements.max": "100", "wal_level": "logical"}, true},
		"managed":         {map[string]string{"port": "1"}, false},
		"minimal":         {map[string]string{"wal_level": "minimal"}, false},
		"newline":         {map[string]string{"work_mem": "4MB\nfsync=off"}, false},
		"name":            {map[string]string{"work_mem = 1\nx": "1"}, false},
		"upper case":      {map[string]string{"FSYNC": "off"}, false},
		"recovery target": {map[string]string{"recovery_target_xid": "1"}, false},
		"no number":       {map[string]string{"max_connections": "many"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkParameters(c.parameters); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrParameter) {
				t.Errorf("%v: %v", c.parameters, err)
			}
		})
	}
	got := minimums(map[string]string{"max_connections": "50"}, Minimums{MaxConnections: 60, MaxWorkerProcesses: 4}, 3)
	want := Minimums{MaxConnections: 60, MaxWALSenders: 13, MaxWorkerProcesses: 8, MaxLocksPerTransaction: 64}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("minimums (-want +got): %s", diff)
	}
}

func TestWithoutManaged(t *testing.T) {
	in := "shared_buffers = 1MB\n#fsync = off\n fsync = off\nmax_connections=100\nport 5\nPrimary_Conninfo = ''\nwork_mem='1MB'\n"
	if got, want := string(withoutManaged([]byte(in))), "shared_buffers = 1MB\n#fsync = off\nwork_mem='1MB'\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParsers(t *testing.T) {
	for text, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15, "postgres (PostgreSQL) 18beta1\n": 18, "postgres": 0,
	} {
		if got, err := parseMajor(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("version of %q: %d, %v", text, got, err)
		}
	}
	if done, total, ok := parseProgress("  1024/ 2048 kB (50%), 0/1 tablespace"); !ok || done != 1<<20 || total != 2<<20 {
		t.Errorf("progress %d of %d, %t", done, total, ok)
	}
	if _, _, ok := parseProgress("waiting for checkpoint"); ok {
		t.Error("no progress was read as progress")
	}
	if got := SyncNames([]replication.NodeID{"b", "a"}, 2); got != `ANY 2 ("a", "b")` {
		t.Errorf("names %s", got)
	}
	if tl, start, ok := parseSegment("00000003000000010000000A", 16<<20); !ok || tl != 3 || start.String() != "1/A000000" {
		t.Errorf("segment: %d %s %t", tl, start, ok)
	}
	if _, _, ok := parseSegment("00000003000000010000000A.partial", 16<<20); ok {
		t.Error("a partial segment counts")
	}
	if _, err := parseControl("Database cluster state: in production\n"); err == nil {
		t.Error("a short report was read")
	}
}

func TestPresence(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "data")
	check := func(want Presence) {
		t.Helper()
		if got, err := presenceOf(at); err != nil || got != want {
			t.Errorf("presence %s, %v, want %s", got, err, want)
		}
	}
	check(Absent)
	must(t, os.Mkdir(at, 0o700))
	check(Empty)
	must(t, os.Mkdir(filepath.Join(at, "lost+found"), 0o700))
	check(Empty)
	must(t, os.WriteFile(filepath.Join(at, "x"), nil, 0o600))
	check(Foreign)
	must(t, os.WriteFile(filepath.Join(at, "PG_VERSION"), []byte("15\n"), 0o600))
	check(Present)
}

func TestNoBinaries(t *testing.T) {
	dir := t.TempDir()
	_, err := findBinaries(t.Context(), dir, 0)
	if !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
}

func TestConfig(t *testing.T) {
	if err := configAt("/tmp/x", "n").check(); err == nil {
		t.Error("a configuration without a port passed")
	}
	good := configAt("/tmp/x", "n")
	good.Port = 5432
	must(t, good.check())
	for name, spoil := range map[string]func(*Config){
		"run directory too long": func(c *Config) { c.RunDir = "/" + strings.Repeat("x", 100) },
		"state in data":          func(c *Config) { c.StateDir = c.DataDir + "/state" },
		"relative":               func(c *Config) { c.DataDir = "data" },
		"short secret":           func(c *Config) { c.Secret = NewSecret("test", []byte("short")) },
		"other secret":           func(c *Config) { c.Secret = NewSecret("other", []byte("0123456789abcdef")) },
		"parameter":              func(c *Config) { c.Parameters = map[string]string{"port": "1"} },
	} {
		c := good
		spoil(&c)
		if err := c.check(); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
