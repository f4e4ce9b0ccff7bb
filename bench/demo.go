package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Demo is the content of demo.json: how to reach a demo cluster.
type Demo struct {
	User     string   `json:"user"`
	Password string   `json:"password"`
	Database string   `json:"database"`
	Sidecar  Endpoint `json:"sidecar"`
	Nodes    []Node   `json:"nodes"`
}

// Endpoint is the sidecar proxy.
type Endpoint struct {
	PID  int    `json:"pid"`
	Addr string `json:"addr"`
	API  string `json:"api"`
}

// Node is one member.
type Node struct {
	Name          string `json:"name"`
	PID           int    `json:"pid"`
	GuardPID      int    `json:"guard_pid"`
	PostmasterPID int    `json:"postmaster_pid"`
	Proxy         string `json:"proxy"`
	Postgres      string `json:"postgres"`
	API           string `json:"api"`
	DataDir       string `json:"data_dir"`
}

// LoadDemo reads demo.json in the folder.
func LoadDemo(dir string) (Demo, error) {
	content, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		return Demo{}, fmt.Errorf("read demo: %w", err)
	}
	var d Demo
	if err := json.Unmarshal(content, &d); err != nil {
		return Demo{}, fmt.Errorf("read demo: %w", err)
	}
	if d.User == "" || d.Sidecar.Addr == "" || d.Sidecar.API == "" || len(d.Nodes) == 0 {
		return Demo{}, errors.New("read demo: demo.json names no user, sidecar or node")
	}
	return d, nil
}

// Node returns the named node.
func (d Demo) Node(name string) (Node, error) {
	for _, n := range d.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("demo.json has no node %q", name)
}

// url returns a connection string for an address of the cluster. Connecting takes at most the timeout.
func (d Demo) url(addr string, timeout time.Duration) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(d.User, d.Password), Host: addr, Path: "/" + d.Database}
	query := url.Values{"sslmode": {"disable"}, "application_name": {"walgate bench"}}
	query.Set("connect_timeout", strconv.Itoa(max(1, int(timeout/time.Second))))
	u.RawQuery = query.Encode()
	return u.String()
}

// demoTimeout bounds each verb of the demo.
const demoTimeout = 3 * time.Minute

// ensureDemo starts a demo unless the folder has a running one. stop ends what was started, and is never nil.
func ensureDemo(ctx context.Context, cfg Config) (stop func() error, err error) {
	none := func() error { return nil }
	d, err := LoadDemo(cfg.Dir)
	switch {
	case err == nil:
		a := newAPI(d.Sidecar.API)
		defer a.close()
		if _, err := a.cluster(ctx); err != nil {
			return none, fmt.Errorf("the demo in %s does not answer, start it with `walgate demo start --dir %[1]s`: %w", cfg.Dir, err)
		}
		return none, nil
	case !errors.Is(err, fs.ErrNotExist):
		return none, err
	}
	stop = func() error {
		return walgate(context.WithoutCancel(ctx), cfg, "demo", "stop", "--dir", cfg.Dir)
	}
	err = walgate(ctx, cfg, "demo", "--detach", "--dir", cfg.Dir, "--port", strconv.Itoa(cfg.Port), "--sync", cfg.Sync)
	if err != nil {
		return none, errors.Join(err, stop()) // nodes may be running
	}
	return stop, nil
}

// walgate runs one verb to its end.
func walgate(ctx context.Context, cfg Config, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, cfg.Walgate, args...)
	cmd.WaitDelay = time.Second // its children may hold the pipe
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("run walgate %s %s: %w: %s", args[0], args[1], err, out.text)
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct{ text []byte }

const tailBytes = 4096

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}
