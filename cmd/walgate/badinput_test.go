package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// files is a configuration of a node that could run, in a directory of its own, for cases to break.
type files struct {
	dir, config string
	lines       []string
}

func newFiles(t *testing.T) *files {
	t.Helper()
	dir, err := os.MkdirTemp("", "wg") // not TempDir, whose paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &files{dir: dir, config: filepath.Join(dir, "node.yaml")}
	for _, name := range []string{"secret", "password"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a secret of more than sixteen bytes\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.lines = []string{
		"cluster:", "  secret_file: " + dir + "/secret", "node:", "  name: node1", "  host: 127.0.0.1", "  data_dir: " + dir + "/data",
		"  state_dir: " + dir + "/state", "  run_dir: " + dir + "/run", "postgres:", "  superuser_password_file: " + dir + "/password",
		"store:", "  embedded:", "    data_dir: " + dir + "/etcd",
	}
	return f
}

// add puts a line behind the line of its section, and returns the arguments of check.
func (f *files) add(section string, lines ...string) []string {
	for i, line := range f.lines {
		if line == section+":" {
			f.lines = append(f.lines[:i+1:i+1], append(lines, f.lines[i+1:]...)...)
			return f.check()
		}
	}
	f.lines = append(append(f.lines, section+":"), lines...)
	return f.check()
}

func (f *files) replace(before, after string) []string {
	for i, line := range f.lines {
		f.lines[i] = strings.Replace(line, before, after, 1)
	}
	return f.check()
}

func (f *files) check() []string { return []string{"check", f.config} }

func answering(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"cluster":"demo","primary":"node1","members":[{"name":"node1"}]}`))
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func freePort(t *testing.T) (net.Listener, int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, listener.Addr().(*net.TCPAddr).Port
}

// freePorts gives the node ports of its own, so that what runs on this machine is not in its way.
func freePorts(t *testing.T, f *files) {
	t.Helper()
	ports := make([]int, 5)
	for i := range ports {
		listener, port := freePort(t)
		ports[i] = port
		_ = listener.Close()
	}
	f.add("postgres", fmt.Sprintf("  port: %d", ports[0]))
	f.add("proxy", fmt.Sprintf("  listen: 127.0.0.1:%d", ports[1]))
	f.add("  embedded", fmt.Sprintf("    peer_listen: http://127.0.0.1:%d", ports[2]), fmt.Sprintf("    client_listen: http://127.0.0.1:%d", ports[3]))
	f.add("api", fmt.Sprintf("  listen: 127.0.0.1:%d", ports[4]))
}

func writeOptions(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "options.json"), []byte(`{"port":20000,"nodes":3,"sync":"quorum"}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// badInput breaks something and returns the command line, by the first column of docs/bad-input.md.
func badInput() map[string]func(*testing.T, *files) []string {
	return map[string]func(*testing.T, *files) []string{
		"broken YAML":                    func(_ *testing.T, f *files) []string { return f.add("log", "  level: [") },
		"a key twice":                    func(_ *testing.T, f *files) []string { return f.add("node", "  host: a") },
		"unknown key":                    func(_ *testing.T, f *files) []string { return f.add("node", "  data_dri: /x") },
		"unknown section":                func(_ *testing.T, f *files) []string { return f.add("prxoy", "  listen: x") },
		"a duration without a unit":      func(_ *testing.T, f *files) []string { return f.add("ha", "  ttl: 5") },
		"a word that is no choice":       func(_ *testing.T, f *files) []string { return f.add("ha", "  sync: quorrum") },
		"times that do not fit together": func(_ *testing.T, f *files) []string { return f.add("ha", "  renew: 3s") },
		"a port out of range":            func(_ *testing.T, f *files) []string { return f.add("postgres", "  port: 70000") },
		"a bad name":                     func(_ *testing.T, f *files) []string { return f.replace("name: node1", "name: Node 1") },
		"no file":                        func(*testing.T, *files) []string { return []string{"node", "--config", "/no/such/file.yaml"} },
		"a secret that is missing":       func(_ *testing.T, f *files) []string { return f.replace("/secret", "/nothing") },
		"a secret that everybody can read": func(t *testing.T, f *files) []string {
			if err := os.Chmod(filepath.Join(f.dir, "secret"), 0o644); err != nil {
				t.Fatal(err)
			}
			return f.check()
		},
		"a variable that names no key": func(t *testing.T, f *files) []string {
			t.Setenv("WALGATE_PROXY_LISTENN", "x")
			return f.check()
		},
		"a variable with a bad value": func(t *testing.T, f *files) []string {
			t.Setenv("WALGATE_HA_TTL", "soon")
			return f.check()
		},
		"a store off loopback without TLS": func(_ *testing.T, f *files) []string {
			return f.add("  embedded", "    peer_listen: http://0.0.0.0:2380")
		},
		"a parameter that walgate manages": func(_ *testing.T, f *files) []string {
			return f.add("postgres", "  parameters: {wal_level: minimal}")
		},
		"an unknown flag":             func(*testing.T, *files) []string { return []string{"status", "--no-such-flag"} },
		"an unknown verb":             func(*testing.T, *files) []string { return []string{"statsu"} },
		"a missing argument":          func(*testing.T, *files) []string { return []string{"check"} },
		"a node without a file":       func(*testing.T, *files) []string { return []string{"node"} },
		"an API address that is none": func(*testing.T, *files) []string { return []string{"status", "--api", "nonsense"} },
		"nobody at the API address": func(t *testing.T, _ *files) []string {
			listener, port := freePort(t)
			_ = listener.Close()
			return []string{"status", "--api", fmt.Sprintf("http://127.0.0.1:%d", port)}
		},
		"a verb that the cluster cannot carry out": func(t *testing.T, _ *files) []string {
			return []string{"switchover", "--yes", "--to", "no_such_node", "--api", answering(t, 404, `{"error":"no_such_node is no member of this cluster"}`)}
		},
		"a verb on an open API without a token": func(t *testing.T, _ *files) []string {
			return []string{"pause", "--yes", "--api", answering(t, 403, `{"error":"this verb is refused on an address that other machines reach","hint":"set api.token_file, or api.listen to a loopback address"}`)}
		},
		"a verb with a wrong token": func(t *testing.T, _ *files) []string {
			return []string{"resume", "--yes", "--api", answering(t, 401, `{"error":"this verb needs the API's token","hint":"send it"}`)}
		},
		"a switchover whose end was not seen": func(t *testing.T, _ *files) []string {
			return []string{"switchover", "--yes", "--api", answering(t, 504, `{"error":"the switchover from node1 to node2 was begun and its end was not seen in time"}`)}
		},
		"a port in use": func(t *testing.T, f *files) []string {
			freePorts(t, f)
			_, port := freePort(t)
			t.Setenv("WALGATE_API_LISTEN", "127.0.0.1:"+strconv.Itoa(port))
			f.check()
			return []string{"node", "--config", f.config}
		},
		"no PostgreSQL programs": func(t *testing.T, f *files) []string {
			freePorts(t, f)
			f.add("postgres", "  bin_dir: "+f.dir+"/no-bin")
			return []string{"node", "--config", f.config}
		},
		"no demo in the directory": func(_ *testing.T, f *files) []string { return []string{"demo", "stop", "--dir", f.dir} },
		"a demo with other options": func(t *testing.T, f *files) []string {
			writeOptions(t, f.dir)
			return []string{"demo", "--dir", f.dir, "--port", "21000"}
		},
		"a demo with impossible options": func(_ *testing.T, f *files) []string { return []string{"demo", "--dir", f.dir, "--nodes", "0"} },
		"a directory that the user postgres cannot enter": func(t *testing.T, f *files) []string {
			if os.Geteuid() != 0 {
				t.Skip("SKIPPED: only root runs PostgreSQL as somebody else")
			}
			listener, port := freePort(t)
			_ = listener.Close()
			if err := os.Chmod(f.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return []string{"demo", "--dir", f.dir + "/demo", "--nodes", "1", "--port", strconv.Itoa(min(port, 65000))}
		},
	}
}

// TestBadInput carries out every row of docs/bad-input.md that a command line can show, and wants each row to be shown
// by a test.
func TestBadInput(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "bad-input.md"))
	if err != nil {
		t.Fatal(err)
	}
	cases := badInput()
	for line := range strings.Lines(string(document)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || strings.TrimSpace(cells[3]) != "verb" {
			continue
		}
		name, code, message := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		change, ok := cases[name]
		if !ok {
			t.Errorf("no test holds the row %q", name)
			continue
		}
		delete(cases, name)
		t.Run(name, func(t *testing.T) {
			f := newFiles(t)
			args := change(t, f)
			if err := os.WriteFile(f.config, []byte(strings.Join(f.lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := run(t, args...)
			if err == nil {
				t.Fatalf("walgate %v went well: %s", args, out)
			}
			if got := strconv.Itoa(exitCode(err)); got != code {
				t.Errorf("walgate %v: exit code %s, want %s: %v", args, got, code, err)
			}
			rest := err.Error()
			for part := range strings.SplitSeq(message, "…") {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("walgate %v says\n %s\nwant\n %s", args, err, message)
				}
				rest = after
			}
			if _, err := os.Stat(filepath.Join(f.dir, "data")); err == nil {
				t.Error("a data directory was made")
			}
		})
	}
	for name := range cases {
		t.Errorf("docs/bad-input.md has no row %q", name)
	}
}

// run carries out a command line as main does.
func run(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetIn(strings.NewReader(""))
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	err = root.ExecuteContext(ctx)
	return out.String() + errOut.String(), err
}
