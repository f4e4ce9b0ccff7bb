package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// settings is a node that could run, for tests to break.
type settings struct {
	dir   string
	port  int
	lines []string
}

func newSettings(t *testing.T) *settings {
	t.Helper()
	dir, err := os.MkdirTemp(root, "n")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range processesBelow(dir) {
			t.Errorf("left behind: %s", p)
			p.kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	s := &settings{dir: dir, port: freeBlock(t)}
	for _, name := range []string{"secret", "password"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("quite a long secret for a test of "+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.lines = []string{
		"cluster:", "  name: bad_input", "  secret_file: " + dir + "/secret",
		"node:", "  name: node1", "  host: 127.0.0.1", "  data_dir: " + dir + "/data", "  state_dir: " + dir + "/state", "  run_dir: " + dir + "/run",
		"postgres:", fmt.Sprintf("  port: %d", s.port+20), "  superuser_password_file: " + dir + "/password",
		"store:", "  embedded:", "    data_dir: " + dir + "/etcd", fmt.Sprintf("    peer_listen: http://127.0.0.1:%d", s.port+40),
		fmt.Sprintf("    client_listen: http://127.0.0.1:%d", s.port+30),
		"proxy:", fmt.Sprintf("  listen: 127.0.0.1:%d", s.port),
		"api:", fmt.Sprintf("  listen: 127.0.0.1:%d", s.port+8),
	}
	return s
}

func (s *settings) api() string { return fmt.Sprintf("http://127.0.0.1:%d", s.port+8) }

// with replaces lines that begin with the key of the given one (spaces included), or adds it after the line "after".
func (s *settings) with(line string) *settings {
	key, _, _ := strings.Cut(line, ":")
	for i, old := range s.lines {
		if strings.HasPrefix(old, key+":") {
			s.lines[i] = line
			return s
		}
	}
	s.lines = append(s.lines, line)
	return s
}

// under adds a line to a section.
func (s *settings) under(section, line string) *settings {
	for i, old := range s.lines {
		if old == section+":" {
			s.lines = append(s.lines[:i+1], append([]string{line}, s.lines[i+1:]...)...)
			return s
		}
	}
	s.lines = append(s.lines, section+":", line)
	return s
}

// write writes the file and returns its path.
func (s *settings) write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(s.dir, "node.yaml")
	if err := os.WriteFile(path, []byte(strings.Join(s.lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBadConfiguration: what is wrong with a file is said by check and by node, with the same exit code, before
// anything is touched.
func TestBadConfiguration(t *testing.T) {
	requireCluster(t)
	for _, test := range []struct {
		name    string
		change  func(*testing.T, *settings)
		environ []string
		code    int
		says    []string
	}{
		{"good", func(*testing.T, *settings) {}, nil, 0, nil},
		{"broken YAML", func(_ *testing.T, s *settings) { s.lines = append(s.lines, "log: [") }, nil, 3, []string{"node.yaml:", "YAML"}},
		{"broken indentation", func(_ *testing.T, s *settings) { s.lines = append(s.lines, "  level: info", "log") }, nil, 3, []string{"node.yaml:"}},
		{"unknown key", func(_ *testing.T, s *settings) { s.under("node", "  data_dri: /x") }, nil, 3, []string{"node.yaml:5", "data_dri", "data_dir"}},
		{"unknown section", func(_ *testing.T, s *settings) { s.lines = append(s.lines, "prxoy:", "  listen: x") }, nil, 3, []string{"prxoy", "proxy"}},
		{"bad duration", func(_ *testing.T, s *settings) { s.under("ha", "  ttl: 5") }, nil, 3, []string{"ha.ttl", "5s"}},
		{"bad choice", func(_ *testing.T, s *settings) { s.under("ha", "  sync: quorrum") }, nil, 3, []string{"ha.sync", "quorum", "strict"}},
		{"times that do not fit", func(_ *testing.T, s *settings) { s.under("ha", "  renew: 3s") }, nil, 3, []string{"renew", "ttl"}},
		{"bad port", func(_ *testing.T, s *settings) { s.with("  port: 70000") }, nil, 3, []string{"postgres.port", "65535"}},
		{"bad name", func(_ *testing.T, s *settings) { s.with("  name: Node 1") }, nil, 3, []string{"name"}},
		{"missing secret", func(_ *testing.T, s *settings) { s.with("  secret_file: " + s.dir + "/nothing") }, nil, 3, []string{"secret_file", "nothing"}},
		{"secret that others can read", func(t *testing.T, s *settings) {
			if err := os.Chmod(filepath.Join(s.dir, "secret"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, nil, 3, []string{"secret"}},
		{"unknown variable", func(*testing.T, *settings) {}, []string{"WALGATE_PROXY_LISTENN=x"}, 3, []string{"WALGATE_PROXY_LISTENN"}},
		{"bad variable", func(*testing.T, *settings) {}, []string{"WALGATE_HA_TTL=soon"}, 3, []string{"soon"}},
		{"store off loopback without TLS", func(_ *testing.T, s *settings) { s.with(fmt.Sprintf("    peer_listen: http://0.0.0.0:%d", s.port+40)) }, nil, 3, []string{"peer_listen", "store.tls"}},
		{"managed parameter", func(_ *testing.T, s *settings) { s.under("postgres", "  parameters: {wal_level: minimal}") }, nil, 3, []string{"wal_level"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSettings(t)
			test.change(t, s)
			file := s.write(t)
			verbs := [][]string{{"check", file}}
			if test.code != 0 {
				verbs = append(verbs, []string{"node", "--config", file})
			}
			for _, args := range verbs {
				ctx, cancel := context.WithTimeout(t.Context(), verbLimit)
				cmd := exec.CommandContext(ctx, binary, args...)
				cmd.Env = append(os.Environ(), test.environ...)
				out := finish(cmd)
				cancel()
				if out.code != test.code {
					t.Errorf("%s: %s\nwant exit code %d", args[0], out, test.code)
				}
				for _, word := range test.says {
					if !strings.Contains(out.stderr, word) {
						t.Errorf("%s says %q, without %q", args[0], out.stderr, word)
					}
				}
				if strings.Contains(out.stderr, "goroutine ") {
					t.Errorf("%s says %q", args[0], out.stderr)
				}
			}
			if _, err := os.Stat(filepath.Join(s.dir, "data")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("a data directory was made")
			}
		})
	}
}

// TestBadCommandLine looks at the exit codes of wrong use.
func TestBadCommandLine(t *testing.T) {
	requireCluster(t)
	nobody := fmt.Sprintf("http://127.0.0.1:%d", freeBlock(t))
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"status", "--no-such-flag"}, 2, "no-such-flag"},
		{[]string{"statsu"}, 2, "statsu"},
		{[]string{"check"}, 2, "arg"},
		{[]string{"node"}, 2, "--config"},
		{[]string{"node", "--config", "/no/such/file.yaml"}, 3, "/no/such/file.yaml"},
		{[]string{"check", "/no/such/file.yaml"}, 3, "/no/such/file.yaml"},
		{[]string{"status", "--api", nobody}, 4, nobody[len("http://"):]},
		{[]string{"status", "--api", "nonsense"}, 2, "nonsense"},
		{[]string{"switchover", "--yes", "--api", nobody}, 4, nobody[len("http://"):]},
		{[]string{"demo", "stop", "--dir", root + "/no-demo"}, 7, "no-demo"},
		{[]string{"demo", "--dir", root + "/no-demo", "--nodes", "99"}, 3, "nodes"},
		{[]string{"demo", "--dir", root + "/no-demo", "--sync", "maybe"}, 3, "maybe"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			out := command(t.Context(), verbLimit, test.args...)
			if out.code != test.code || !strings.Contains(out.stderr, test.says) {
				t.Errorf("%s\nwant exit code %d and the word %q", out, test.code, test.says)
			}
		})
	}
}

// TestMachineInTheWay: what this machine lacks, or has too much of, is named, and the process ends with code 7.
func TestMachineInTheWay(t *testing.T) {
	requireCluster(t)
	for _, test := range []struct {
		name   string
		change func(*testing.T, *settings)
		says   []string
	}{
		{"port of the proxy in use", func(t *testing.T, s *settings) { occupy(t, s.port) }, []string{"in use", "e2e.test"}},
		{"port of the API in use", func(t *testing.T, s *settings) { occupy(t, s.port+8) }, []string{"in use"}},
		{"port of PostgreSQL in use", func(t *testing.T, s *settings) { occupy(t, s.port+20) }, []string{"in use"}},
		{"port of the store in use", func(t *testing.T, s *settings) { occupy(t, s.port+30) }, []string{"in use"}},
		{"no PostgreSQL binaries", func(_ *testing.T, s *settings) { s.under("postgres", "  bin_dir: "+s.dir+"/no-bin") }, []string{"no-bin", "postgres.bin_dir"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSettings(t)
			test.change(t, s)
			out := command(t.Context(), verbLimit, "node", "--config", s.write(t))
			if out.code != 7 {
				t.Errorf("%s\nwant exit code 7", out)
			}
			for _, word := range append(test.says, "") {
				if !strings.Contains(out.stderr, word) {
					t.Errorf("it says %q, without %q", out.stderr, word)
				}
			}
			if _, err := os.Stat(filepath.Join(s.dir, "data", "PG_VERSION")); err == nil {
				t.Error("a database cluster was made")
			}
		})
	}
	t.Run("ports of a demo in use", func(t *testing.T) {
		port := freeBlock(t)
		occupy(t, port+1)
		dir := filepath.Join(root, "demo-in-the-way")
		out := command(t.Context(), verbLimit, "demo", "--detach", "--dir", dir, "--port", strconv.Itoa(port))
		if out.code != 7 || !strings.Contains(out.stderr, strconv.Itoa(port+1)) {
			t.Errorf("%s\nwant exit code 7 and the port %d", out, port+1)
		}
	})
}

func occupy(t *testing.T, port int) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
}

// TestStoreUnreachable: a node that finds no etcd waits and says so; it makes nothing, and ends when it is told to.
func TestStoreUnreachable(t *testing.T) {
	requireCluster(t)
	s := newSettings(t)
	s.with(`    data_dir: ""`).under("store", fmt.Sprintf(`  endpoints: ["http://127.0.0.1:%d"]`, s.port+35))
	b := startProcess(t, exec.Command(binary, "node", "--config", s.write(t)))
	await(t, startLimit, "a node that says that it waits for its store", func(ctx context.Context) error {
		if b.running() == nil {
			return fmt.Errorf("it has ended:\n%s", b.output)
		}
		c, err := clusterAt(ctx, s.api())
		if err != nil {
			return err
		}
		if c.StoreError == "" {
			return fmt.Errorf("no store_error in %+v", c)
		}
		t.Logf("it says: %s", c.StoreError)
		return nil
	})
	if _, err := os.Stat(filepath.Join(s.dir, "data", "PG_VERSION")); err == nil {
		t.Error("a database cluster was made without a store")
	}
	if out := command(t.Context(), verbLimit, "status", "--api", s.api()); !strings.Contains(out.stdout, "store") {
		t.Errorf("status for people does not speak of the store:\n%s", out)
	}
	started := time.Now()
	if code := b.stop(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM:\n%s", code, b.output)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %s to end", took)
	}
}

// TestForeignData takes a healthy demo of one node and spoils what its node finds at the next start. Whatever it is,
// nothing of it may be deleted or changed, and the node has to say what is wrong.
func TestForeignData(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 1)
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create table precious as select generate_series(1, 1000) n")
	d.stop(t)
	n := d.node(t, "node1")
	nodeDir := filepath.Dir(n.DataDir)
	aside := filepath.Join(nodeDir, "aside")

	t.Run("data directory of another cluster", func(t *testing.T) {
		setAside(t, n.DataDir, aside)
		initdb(t, n.DataDir)
		before := fingerprint(t, n.DataDir)
		d.expectRefusal(t, n, []string{"system"})
		if after := fingerprint(t, n.DataDir); after != before {
			t.Errorf("the foreign data directory changed: %s, was %s", after, before)
		}
	})
	t.Run("directory with other files", func(t *testing.T) {
		setAside(t, n.DataDir, aside)
		if err := os.Mkdir(n.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(n.DataDir, "thesis.txt")
		if err := os.WriteFile(file, []byte("years of work"), 0o600); err != nil {
			t.Fatal(err)
		}
		d.expectRefusal(t, n, []string{"data"})
		if content, err := os.ReadFile(file); err != nil || string(content) != "years of work" {
			t.Errorf("the file is %q, %v", content, err)
		}
	})
	t.Run("empty store beside a full data directory", func(t *testing.T) {
		etcd := filepath.Join(nodeDir, "etcd")
		setAside(t, etcd, etcd+".aside")
		before := fingerprint(t, n.DataDir)
		d.expectRefusal(t, n, []string{"store"})
		if after := fingerprint(t, n.DataDir); after != before {
			t.Errorf("the data directory changed: %s, was %s", after, before)
		}
	})
	t.Run("all is as it was", func(t *testing.T) {
		d.start(t)
		d.awaitHealthy(t)
		conn := dial(t, d.endpoint(t))
		if n := ask[int](t, conn, "select count(*) from precious"); n != 1000 {
			t.Errorf("%d of 1000 rows are there", n)
		}
	})
}

// expectRefusal starts the node as the demo would, and waits until it has ended with code 7 or says in the API why it
// does not run PostgreSQL; all words have to be said.
func (d *Demo) expectRefusal(t *testing.T, n nodeFacts, words []string) {
	t.Helper()
	b := startProcess(t, exec.Command(binary, "node", "--config", filepath.Join(d.Dir, n.Name+".yaml")))
	await(t, healLimit, "a refusal", func(ctx context.Context) error {
		said := ""
		if b.running() == nil {
			if code := b.cmd.ProcessState.ExitCode(); code != 7 {
				t.Fatalf("it ended with code %d:\n%s", code, b.output)
			}
			said = b.output.String()
		} else {
			c, err := clusterAt(ctx, n.API)
			if err != nil {
				return err
			}
			if len(c.Members) == 1 && c.Members[0].State == "running" {
				t.Fatalf("it runs: %+v", c)
			}
			if len(c.Members) == 1 {
				said = c.Members[0].State + ": " + c.Members[0].Why
			}
			said += c.StoreError
		}
		for _, word := range words {
			if !strings.Contains(said, word) {
				return fmt.Errorf("it says %q, without %q", cut([]byte(said), 2000), word)
			}
		}
		t.Logf("it says: %s", strings.TrimSpace(said[max(0, len(said)-600):]))
		return nil
	})
	b.stop(t) // before the test moves the directory
}

// setAside renames a directory until the end of the test; what has come in its place is then removed.
func setAside(t *testing.T, dir, aside string) {
	t.Helper()
	if err := os.Rename(dir, aside); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.RemoveAll(dir), os.Rename(aside, dir)); err != nil {
			t.Error(err)
		}
	})
}

// initdb makes a database cluster that belongs to nobody.
func initdb(t *testing.T, dir string) {
	t.Helper()
	path, err := postgresBinary("initdb")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), verbLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-D", dir, "-U", "postgres", "-A", "reject", "--no-sync")
	if os.Geteuid() == 0 {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		credential, err := postgresUser()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = asUser(credential)
	}
	cmd.Dir = "/"
	if out := finish(cmd); out.err != nil {
		t.Fatalf("initdb: %v\n%s", out.err, out)
	}
}

// fingerprint is a digest of names, sizes and contents of what no server run may change in a directory.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(sum, path)
		_, err = io.Copy(sum, file)
		return errors.Join(err, file.Close())
	})
	if err != nil {
		t.Fatalf("read %s: %v", dir, err)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:8])
}
