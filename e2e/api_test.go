package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func testPatroniPaths(t *testing.T, d *Demo) {
	primary := d.cluster(t).primary()
	f := d.facts(t)
	for _, n := range f.Nodes {
		onPrimary, onStandby := http.StatusServiceUnavailable, http.StatusOK
		if n.Name == primary {
			onPrimary, onStandby = onStandby, onPrimary
		}
		for path, want := range map[string]int{
			"/": onPrimary, "/primary": onPrimary, "/master": onPrimary, "/leader": onPrimary, "/read-write": onPrimary,
			"/replica": onStandby, "/replica?lag=16MB": onStandby, "/replica?lag=" + strconv.Itoa(1<<24): onStandby, "/quorum": onStandby,
			"/read-only": 200, "/health": 200, "/liveness": 200, "/readiness": 200, "/patroni": 200,
			"/cluster": 200, "/history": 200, "/config": 200, "/metrics": 200, "/v1/cluster": 200, "/v1/sessions": 200, "/no-such-path": 404,
		} {
			status, body, err := call(t.Context(), http.MethodGet, n.API+path, "")
			if err != nil || status != want {
				t.Errorf("GET %s of %s (primary is %s): %d, %v; want %d: %s", path, n.Name, primary, status, err, want, cut([]byte(body), 300))
			}
		}
		for _, method := range []string{http.MethodOptions, http.MethodHead} {
			if status, _, err := call(t.Context(), method, n.API+"/primary", ""); err != nil || status != onPrimary {
				t.Errorf("%s /primary of %s: %d, %v; want %d", method, n.Name, status, err, onPrimary)
			}
		}
	}
	for path, want := range map[string]int{"/primary": 503, "/replica": 503, "/health": 503, "/liveness": 200, "/cluster": 200, "/metrics": 200} {
		if status, body, err := call(t.Context(), http.MethodGet, f.Sidecar.API+path, ""); err != nil || status != want {
			t.Errorf("GET %s of the sidecar: %d, %v; want %d: %s", path, status, err, want, cut([]byte(body), 300))
		}
	}
	var patroni struct {
		Members []struct {
			Name, Role, State, Host string
			Port                    int
		}
	}
	_, body, err := call(t.Context(), http.MethodGet, f.Nodes[0].API+"/cluster", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(body), &patroni); err != nil {
		t.Fatalf("read /cluster: %v\n%s", err, body)
	}
	leaders := 0
	for _, m := range patroni.Members {
		if m.Role == "leader" {
			leaders++
		}
	}
	if leaders != 1 || len(patroni.Members) != d.N {
		t.Errorf("/cluster has %d leaders of %d members: %s", leaders, len(patroni.Members), body)
	}
}

// testUnsafeVerbs runs a second proxy of the same cluster, with an API that other machines could reach.
func testUnsafeVerbs(t *testing.T, d *Demo) {
	before := d.cluster(t)
	// On loopback without a token: not for another origin, nor for a name that is not loopback.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.facts(t).Sidecar.API+"/v1/pause", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "evil.example"
	if status := send(t, request); status != http.StatusForbidden {
		t.Errorf("pause under a foreign host name: %d, want 403", status)
	}
	port := freeBlock(t)
	open := fmt.Sprintf("http://127.0.0.1:%d", port+1)
	d.extraProxy(t, port, open)
	for _, verb := range []string{"pause", "switchover", "failover", "resume", "restart", "reinitialize", "reload"} {
		if status, body, err := call(t.Context(), http.MethodPost, open+"/v1/"+verb, "{}"); err != nil || status != http.StatusForbidden {
			t.Errorf("%s on 0.0.0.0 without a token: %d, %v; want 403: %s", verb, status, err, body)
		}
	}
	if status, _, err := call(t.Context(), http.MethodPatch, open+"/v1/config", `{}`); err != nil || status != http.StatusForbidden {
		t.Errorf("PATCH config on 0.0.0.0 without a token: %d, %v; want 403", status, err)
	}
	token := filepath.Join(filepath.Dir(d.Dir), "token")
	if err := os.WriteFile(token, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.own(t, token)
	guarded := fmt.Sprintf("http://127.0.0.1:%d", port+3)
	d.extraProxy(t, port+2, guarded, "WALGATE_API_TOKEN_FILE="+token)
	for given, want := range map[string]int{"": 401, "wrong": 401, "open sesame": 200} {
		await(t, sqlLimit, fmt.Sprintf("resume with the token %q to give %d", given, want), func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, guarded+"/v1/resume", nil)
			if err != nil {
				return err
			}
			if given != "" {
				request.Header.Set("Authorization", "Bearer "+given)
			}
			if status := send(t, request); status != want { // a slow store makes it 503 or 504
				return fmt.Errorf("status %d", status)
			}
			return nil
		})
	}
	if after := d.cluster(t); after.Paused || after.Epoch != before.Epoch {
		t.Errorf("a refused verb had an effect: paused %v, epoch %d, was %d", after.Paused, after.Epoch, before.Epoch)
	}
}

func send(t *testing.T, request *http.Request) int {
	t.Helper()
	response, err := httpClient.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", request.Method, request.URL, err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// extraProxy runs `walgate proxy` with the configuration of the sidecar, an API on all addresses, and more settings from
// the environment, until the end of the test.
func (d *Demo) extraProxy(t *testing.T, port int, api string, environ ...string) {
	t.Helper()
	config := ""
	if p, ok := readProcess(d.facts(t).Sidecar.PID); ok {
		if _, rest, found := strings.Cut(p.command, "--config "); found {
			config, _, _ = strings.Cut(rest, " ")
		}
	}
	if config == "" {
		t.Fatal("the sidecar runs without --config")
	}
	cmd := exec.Command(binary, "proxy", "--config", config)
	cmd.Env = append(os.Environ(), append(environ, fmt.Sprintf("WALGATE_PROXY_LISTEN=127.0.0.1:%d", port),
		fmt.Sprintf("WALGATE_API_LISTEN=0.0.0.0:%d", port+1), fmt.Sprintf("WALGATE_PROXY_ID=extra%d", port), "WALGATE_API_ADVERTISE="+api)...)
	startProcess(t, cmd)
	await(t, startLimit, "the API of another proxy", func(ctx context.Context) error {
		status, body, err := call(ctx, http.MethodGet, api+"/v1/cluster", "")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	})
}

// background is a process that a test runs beside itself.
type background struct {
	cmd    *exec.Cmd
	output *syncBuffer
	ended  chan struct{} // closed when it has ended
}

// startProcess starts cmd; at the end of the test it is stopped.
func startProcess(t *testing.T, cmd *exec.Cmd) *background {
	t.Helper()
	b := &background{cmd: cmd, output: &syncBuffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = b.output, b.output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	go func() { // ends with the process, which the cleanup below ends
		_ = cmd.Wait()
		close(b.ended)
	}()
	t.Cleanup(func() {
		b.stop(t)
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd, b.output)
		}
	})
	return b
}

// stop ends the process if it still runs, and returns its exit code.
func (b *background) stop(t *testing.T) int {
	t.Helper()
	_ = b.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	err := awaitErr(context.WithoutCancel(t.Context()), healLimit, "the end of "+b.cmd.String(), func(context.Context) error { return b.running() })
	if err != nil {
		t.Errorf("%v\n%s", err, b.output)
		_ = b.cmd.Process.Kill()
		<-b.ended
	}
	return b.cmd.ProcessState.ExitCode()
}

// running is nil when the process has ended.
func (b *background) running() error {
	select {
	case <-b.ended:
		return nil
	default:
		return fmt.Errorf("pid %d runs", b.cmd.Process.Pid)
	}
}

// syncBuffer collects output while others read it.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// own gives a file to whoever owns the demo's directory.
func (d *Demo) own(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Chown(path, int(s.Uid), int(s.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

func testStatus(t *testing.T, d *Demo) {
	f := d.facts(t)
	text := d.must(t, verbLimit, "status", "--api", f.Sidecar.API)
	for _, n := range f.Nodes {
		if !strings.Contains(text, n.Name) {
			t.Errorf("status for people does not name %s:\n%s", n.Name, text)
		}
	}
	if !strings.Contains(text, "streaming") || !strings.Contains(text, "primary") {
		t.Errorf("status for people:\n%s", text)
	}
	var c cluster
	if err := json.Unmarshal([]byte(d.must(t, verbLimit, "status", "--api", f.Nodes[0].API, "-o", "json")), &c); err != nil {
		t.Fatalf("status for programs: %v", err)
	}
	if err := c.healthy(d.N); err != nil {
		t.Errorf("status for programs: %v", err)
	}
	if c.Sync.Mode != "quorum" || c.Sync.Quorum != 1 || len(c.Sync.Voters) != d.N-1 {
		t.Errorf("sync is %+v", c.Sync)
	}
	if text := d.must(t, verbLimit, "demo", "status", "--dir", d.Dir); !strings.Contains(text, f.Sidecar.Addr) {
		t.Errorf("demo status does not name %s:\n%s", f.Sidecar.Addr, text)
	}
	if json.Valid([]byte(d.must(t, verbLimit, "demo", "status", "--dir", d.Dir, "-o", "json"))) == false {
		t.Error("demo status -o json is no JSON")
	}
	if info, err := os.Stat(filepath.Join(d.Dir, "demo.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("demo.json: %v, %v; want mode 0600", info.Mode(), err)
	}
	found := false
	for _, p := range c.Proxies {
		found = found || p.Addr == f.Sidecar.Addr
	}
	if !found {
		t.Errorf("the sidecar %s is not among the proxies: %+v", f.Sidecar.Addr, c.Proxies)
	}
}
