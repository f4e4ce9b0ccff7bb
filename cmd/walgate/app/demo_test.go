package app

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walgate/walgate/proxy/secure"
)

// openDir is a directory that user postgres may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	demo := filepath.Join(dir, "demo")
	if err := os.Mkdir(demo, 0o755); err != nil {
		t.Fatal(err)
	}
	return demo
}

func newTestDemo(t *testing.T, o DemoOptions) *Demo {
	t.Helper()
	d, err := NewDemo(o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDemoPortsAreTheContract(t *testing.T) {
	d := newTestDemo(t, DemoOptions{Dir: openDir(t)})
	if err := d.layout(); err != nil {
		t.Fatal(err)
	}
	facts, err := readDemoFacts(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(facts.Password) < 16 {
		t.Errorf("password %q", facts.Password)
	}
	facts.Password = ""
	want := DemoFacts{
		User: "postgres", Database: "postgres", Sidecar: DemoSidecar{Addr: "127.0.0.1:6432", API: "http://127.0.0.1:6440"},
		Nodes: []DemoNode{
			{Name: "node1", Proxy: "127.0.0.1:6433", Postgres: "127.0.0.1:6453", API: "http://127.0.0.1:6441", DataDir: d.dir + "/node1/data"},
			{Name: "node2", Proxy: "127.0.0.1:6434", Postgres: "127.0.0.1:6454", API: "http://127.0.0.1:6442", DataDir: d.dir + "/node2/data"},
			{Name: "node3", Proxy: "127.0.0.1:6435", Postgres: "127.0.0.1:6455", API: "http://127.0.0.1:6443", DataDir: d.dir + "/node3/data"},
		},
	}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Errorf("demo.json (-want +got):\n%s", diff)
	}
	for name, mode := range map[string]os.FileMode{"demo.json": 0o600, "secret": 0o600, "password": 0o600} {
		if info, err := os.Stat(filepath.Join(d.dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode of %s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestDemoPortsNeverMeet(t *testing.T) {
	d := newTestDemo(t, DemoOptions{Dir: openDir(t), Nodes: demoMaxNodes})
	seen := map[string]string{}
	for _, part := range append(d.names(), "sidecar") {
		for address, purpose := range d.ports(part) {
			if before, ok := seen[address]; ok {
				t.Errorf("%s is %s and %s", address, before, purpose)
			}
			seen[address] = purpose
			_, text, _ := net.SplitHostPort(address)
			if port, _ := strconv.Atoi(text); port < demoPort || port >= demoPort+100 {
				t.Errorf("%s lies outside the block", address)
			}
		}
	}
}

func TestDemoConfigurationsAreValid(t *testing.T) {
	d := newTestDemo(t, DemoOptions{Dir: openDir(t), Sync: "strict"})
	if err := d.layout(); err != nil {
		t.Fatal(err)
	}
	for i, name := range d.names() {
		got, err := Load(d.configPath(name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.nodeConfig(i+1), got); diff != "" {
			t.Errorf("%s.yaml (-written +read):\n%s", name, diff)
		}
		if err := got.Validate(KindNode); err != nil {
			t.Error(err)
		}
	}
	sidecar, err := Load(d.configPath("sidecar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sidecar.Validate(KindProxy); err != nil {
		t.Error(err)
	}
}

func TestDemoKeepsItsOptions(t *testing.T) {
	dir := openDir(t)
	made := newTestDemo(t, DemoOptions{Dir: dir, Port: 20100, Nodes: 1, Sync: "off"})
	if err := made.layout(); err != nil {
		t.Fatal(err)
	}
	again := newTestDemo(t, DemoOptions{Dir: dir})
	if !again.known || again.options != made.options {
		t.Errorf("options %+v, want %+v", again.options, made.options)
	}
	for _, o := range []DemoOptions{{Port: 20200}, {Nodes: 3}, {Sync: "quorum"}} {
		o.Dir = dir
		if _, err := NewDemo(o, io.Discard); !errors.Is(err, ErrMachine) {
			t.Errorf("NewDemo(%+v) = %v, want a refusal", o, err)
		}
	}
	for _, o := range []DemoOptions{{Port: 80}, {Port: 65500}, {Nodes: 8}, {Nodes: -1}, {Sync: "maybe"}} {
		o.Dir = dir + "-other"
		if _, err := NewDemo(o, io.Discard); !errors.Is(err, ErrConfig) {
			t.Errorf("NewDemo(%+v) = %v, want a configuration error", o, err)
		}
	}
}

func TestLongDirectoryGetsShortSockets(t *testing.T) {
	d := &Demo{dir: "/tmp/" + strings.Repeat("long", 30)}
	if run := d.runDir("node1"); len(run) > 80 || run == d.runDir("node2") {
		t.Errorf("run directory %q", run)
	}
}

func TestPortInUseNamesItsHolder(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	err = CheckPort(listener.Addr().String(), "api.listen")
	var inUse *PortInUseError
	if !errors.As(err, &inUse) || !errors.Is(err, ErrMachine) || !strings.Contains(err.Error(), "(pid "+strconv.Itoa(os.Getpid())+")") {
		t.Errorf("CheckPort = %v, want this process named", err)
	}
}

func TestOursIsKeptFromTheDemo(t *testing.T) {
	got := withoutOurs([]string{"PATH=/bin", "WALGATE_PROXY_LISTEN=x", "HOME=/"})
	if diff := cmp.Diff([]string{"PATH=/bin", "HOME=/"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "proxy.yaml")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := WriteSecret(secret, strings.Repeat("s", 32)); err != nil {
		t.Fatal(err)
	}
	write := func(extra string) {
		t.Helper()
		content := "cluster: {secret_file: " + secret + "}\nstore: {endpoints: [\"http://127.0.0.1:1\"]}\n" + extra
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	cfg, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	legs := 0
	c := &common{cfg: cfg, reloadTLS: func(client secure.ClientConfig, _ secure.ServerConfig) error {
		if legs++; client.Mode != secure.Allow {
			t.Errorf("TLS was read again with mode %s", client.Mode)
		}
		return nil
	}}
	c.log, c.level = newLogger(cfg.Log, &said)
	c.cfg.Node = NodeConfig{Host: cfg.Node.Host}
	c.applied.Store(&c.cfg)
	write("log: {level: debug}\nproxy: {listen: \"127.0.0.1:2\", tls: {mode: allow}}\npostgres: {parameters: {jit: off}}\n")
	if err := c.reload(path); err != nil {
		t.Fatal(err)
	}
	if c.level.Level() != parseLevel("debug") || !strings.Contains(said.String(), "key=proxy.listen") || strings.Contains(said.String(), "restart is needed\" key=log.level") ||
		legs != 1 || !strings.Contains(said.String(), "applied\" key=proxy.tls.mode") {
		t.Errorf("level %s, log:\n%s", c.level.Level(), said.String())
	}
	if got := c.parameters.Load(); got["jit"] != "off" {
		t.Errorf("parameters %v", got)
	}
	write("log: {level: loud}\n")
	if err := c.reload(path); !errors.Is(err, ErrConfig) || c.level.Level() != parseLevel("debug") {
		t.Errorf("a bad file: %v, level %s", err, c.level.Level())
	}
	said.Reset()
	write("proxy: {listen: \"127.0.0.1:2\", tls: {mode: allow}}\n") // back to where it was, but for what needs a restart
	if err := c.reload(path); err != nil || c.level.Level() != parseLevel("info") {
		t.Errorf("back: %v, level %s", err, c.level.Level())
	}
	if got := c.applied.Load(); len(got.Postgres.Parameters) > 0 || got.Proxy.TLS.Mode != "allow" || got.Proxy.Listen == "127.0.0.1:2" {
		t.Errorf("in force: %+v", got)
	}
	if n := strings.Count(said.String(), "restart is needed"); n != 1 {
		t.Errorf("%d keys need a restart, want proxy.listen:\n%s", n, said.String())
	}
	c.testSet(t, path)
}

// testSet sets keys on the console: what a reload could change, until the next one.
func (c *common) testSet(t *testing.T, path string) {
	t.Helper()
	for _, set := range []struct{ key, value, want string }{
		{"log.level", "debug", ""}, {"log_level", "warn", ""}, {"proxy.timeouts.query", "90s", ""}, {"client_idle_timeout", "600", ""},
		{"max_client_conn", "77", ""}, {"proxy.held_bytes", "5MB", ""},
		{"log.level", "loud", "log.level"}, {"proxy.max_clients", "none", "proxy.max_clients"}, {"proxy.max_clients", "-1", "proxy.max_clients"},
		{"proxy.listen", "127.0.0.1:9", "what can: "}, {"max_clients", "1", "proxy.max_clients"}, {"proxy.timeouts.", "1s", "no key"},
		{"proxy.tls.mode", "loud", "proxy.tls.mode"},
	} {
		if err := c.set(set.key, set.value); (err == nil) != (set.want == "") || err != nil && !strings.Contains(err.Error(), set.want) {
			t.Errorf("SET %s = %s: %v", set.key, set.value, err)
		}
	}
	got := c.applied.Load()
	if c.level.Level() != parseLevel("warn") || got.Proxy.Timeouts.Query != 90*time.Second || got.Proxy.Timeouts.ClientIdle != 10*time.Minute ||
		got.Proxy.MaxClients != 77 || got.Proxy.HeldBytes != 5<<20 {
		t.Errorf("in force: level %s, %+v", c.level.Level(), got.Proxy)
	}
	for _, s := range c.settings() {
		if s.Key == "proxy.max_clients" && (s.Value != "77" || !s.Changeable) {
			t.Errorf("SHOW CONFIG: %+v", s)
		}
	}
	if err := c.reload(path); err != nil || c.applied.Load().Proxy.MaxClients == 77 || c.level.Level() != parseLevel("info") {
		t.Errorf("behind RELOAD: %v, %+v", err, c.applied.Load().Proxy)
	}
}
