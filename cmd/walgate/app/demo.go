package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/ha/api"
	"github.com/walgate/walgate/proxy/takeover"
)

// DemoOptions choose a demo; zero values mean what the demo had before, or the default of a new one.
type DemoOptions struct {
	Dir        string
	Port       int
	Nodes      int
	Sync       string
	Executable string // what runs the nodes; empty: this executable
}

// The defaults of a new demo, and its bounds: the ports of each kind must fit into their part of the block.
const (
	demoPort     = 6432
	demoNodes    = 3
	demoMaxNodes = 7
	demoSync     = "quorum"
)

// The limits of the demo's verbs. They are generous because a laptop may be busy; each wait ends with its condition.
const (
	demoStartLimit = 5 * time.Minute
	demoStopLimit  = 60 * time.Second
	demoPoll       = 200 * time.Millisecond
)

// DemoFacts is the content of DIR/demo.json: a contract for tests and tools.
type DemoFacts struct {
	User     string      `json:"user"`
	Password string      `json:"password"`
	Database string      `json:"database"`
	Sidecar  DemoSidecar `json:"sidecar"`
	Nodes    []DemoNode  `json:"nodes"`
}

// DemoSidecar is the stateless proxy of a demo.
type DemoSidecar struct {
	PID  int    `json:"pid"` // 0: does not run
	Addr string `json:"addr"`
	API  string `json:"api"`
}

// DemoNode is one node of a demo. PID is the agent's; pids are 0 when the process does not run.
type DemoNode struct {
	Name          string `json:"name"`
	PID           int    `json:"pid"`
	GuardPID      int    `json:"guard_pid"`
	PostmasterPID int    `json:"postmaster_pid"`
	Proxy         string `json:"proxy"`
	Postgres      string `json:"postgres"`
	API           string `json:"api"`
	DataDir       string `json:"data_dir"`
}

// DemoStatus is what `walgate demo status` shows.
type DemoStatus struct {
	Facts   DemoFacts    `json:"demo"`
	Cluster *api.Cluster `json:"cluster"` // null when no API answers
}

// Demo is a cluster of processes on this machine that belong to one directory.
type Demo struct {
	dir        string
	executable string
	options    DemoOptions // settled
	known      bool        // the directory holds a demo already
	out        io.Writer
	reaped     sync.WaitGroup // children of this process that are waited for
}

// NewDemo looks at the directory and settles the options; nothing is started.
func NewDemo(o DemoOptions, out io.Writer) (*Demo, error) {
	dir, err := demoDir(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &Demo{dir: dir, executable: o.Executable, out: out}
	if d.executable == "" {
		if d.executable, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this executable: %w", err)
		}
	}
	before, err := d.readOptions()
	if err != nil {
		return nil, err
	}
	d.known = before != (DemoOptions{})
	for _, was := range []struct{ key, given, had string }{
		{"port", fmt.Sprint(o.Port), fmt.Sprint(before.Port)}, {"nodes", fmt.Sprint(o.Nodes), fmt.Sprint(before.Nodes)},
		{"sync", cmp.Or(o.Sync, "0"), before.Sync},
	} {
		if d.known && was.given != "0" && was.given != was.had {
			return nil, fmt.Errorf("%w: the demo in %s was made with --%s %s; stop it and delete the directory for another one, or use another --dir",
				ErrMachine, dir, was.key, was.had)
		}
	}
	d.options = DemoOptions{
		Port: cmp.Or(before.Port, o.Port, demoPort), Nodes: cmp.Or(before.Nodes, o.Nodes, demoNodes), Sync: cmp.Or(before.Sync, o.Sync, demoSync),
	}
	switch {
	case d.options.Nodes < 1 || d.options.Nodes > demoMaxNodes:
		return nil, fmt.Errorf("%w: --nodes %d; allowed: 1 to %d", ErrConfig, d.options.Nodes, demoMaxNodes)
	case d.options.Port < 1024 || d.options.Port > 65535-100:
		return nil, fmt.Errorf("%w: --port %d; allowed: 1024 to 65435", ErrConfig, d.options.Port)
	case !slices.Contains([]string{"quorum", "strict", "off"}, d.options.Sync):
		return nil, fmt.Errorf("%w: --sync %q; allowed: quorum, strict, off", ErrConfig, d.options.Sync)
	}
	return d, nil
}

// demoDir is where a demo lives when nothing is said: below the user's state directory, and for root where the user
// postgres can get to.
func demoDir(given string) (string, error) {
	switch {
	case given != "":
		dir, err := filepath.Abs(given)
		if err != nil {
			return "", fmt.Errorf("find --dir: %w", err)
		}
		return dir, nil
	case os.Geteuid() == 0:
		return "/var/lib/walgate/demo", nil
	case os.Getenv("XDG_STATE_HOME") != "":
		return filepath.Join(os.Getenv("XDG_STATE_HOME"), "walgate", "demo"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w: no home directory, use --dir: %w", ErrMachine, err)
	}
	return filepath.Join(home, ".local", "state", "walgate", "demo"), nil
}

// Run makes the demo or starts it again. With detach it returns when every member is well; else it stays, and stops
// everything when ctx ends.
func (d *Demo) Run(ctx context.Context, detach bool) error {
	if d.anyAlive() {
		return fmt.Errorf("%w: the demo in %s runs already; see walgate demo status, walgate demo stop", ErrMachine, d.dir)
	}
	if err := d.start(ctx, d.names()); err != nil {
		if ctx.Err() != nil { // interrupted while it was being set up
			err = nil
		}
		return errors.Join(err, d.stopAll())
	}
	d.welcome(detach)
	if detach {
		return nil
	}
	d.follow(ctx)
	_, _ = fmt.Fprintln(d.out, "stopping")
	err := d.stopAll()
	d.reaped.Wait()
	return err
}

// Start starts what does not run: one node, or everything. It returns when it is well.
func (d *Demo) Start(ctx context.Context, name string) error {
	if !d.known {
		return fmt.Errorf("%w: there is no demo in %s; walgate demo makes one", ErrMachine, d.dir)
	}
	names := d.names()
	if name != "" {
		if !slices.Contains(names, name) {
			return d.noSuchNode(name)
		}
		names = []string{name}
	}
	return d.start(ctx, names)
}

// Stop stops one node, or everything: standbys first, then the primary.
func (d *Demo) Stop(_ context.Context, name string) error {
	switch {
	case !d.known:
		return fmt.Errorf("%w: there is no demo in %s", ErrMachine, d.dir)
	case name == "":
		return d.stopAll()
	case !slices.Contains(d.names(), name):
		return d.noSuchNode(name)
	}
	return d.stopNodes([]string{name}, syscall.SIGTERM)
}

// Status says what runs.
func (d *Demo) Status(ctx context.Context) (DemoStatus, error) {
	if !d.known {
		return DemoStatus{}, fmt.Errorf("%w: there is no demo in %s", ErrMachine, d.dir)
	}
	facts, err := d.refreshFacts()
	if err != nil {
		return DemoStatus{}, err
	}
	status := DemoStatus{Facts: facts}
	if cluster, ok := d.cluster(ctx); ok {
		status.Cluster = &cluster
	}
	return status, nil
}

func (d *Demo) noSuchNode(name string) error {
	return fmt.Errorf("%w: %s is no node of this demo; allowed: %v", ErrConfig, name, d.names())
}

func (d *Demo) names() []string {
	names := make([]string, d.options.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("node%d", i+1)
	}
	return names
}

func (d *Demo) welcome(detached bool) {
	facts, err := d.refreshFacts()
	if err != nil {
		return // it was written a moment ago; the demo runs all the same
	}
	host := fmt.Sprintf("postgres://%s:%s@%s/%s", facts.User, facts.Password, facts.Sidecar.Addr, facts.Database)
	_, _ = fmt.Fprintf(d.out, "\nthe cluster runs: %d nodes, sync %s\n\n  psql %s\n  walgate status --api %s\n  %s/ui in a browser\n\n",
		d.options.Nodes, d.options.Sync, host, facts.Sidecar.API, facts.Sidecar.API)
	if detached {
		_, _ = fmt.Fprintf(d.out, "walgate demo stop --dir %s ends it\n", d.dir)
		return
	}
	_, _ = fmt.Fprintln(d.out, "Ctrl-C stops it and leaves the data")
}

// factsPath is the contract's file.
func (d *Demo) factsPath() string { return filepath.Join(d.dir, "demo.json") }

// lockedDemo calls change while no other process of the demo changes demo.json.
func lockedDemo(dir string, change func() error) error { return withLock(dir, "demo.lock", change) }

// withLock holds a lock file of the demo during do. Its wait is short: what is done under the locks is.
func withLock(dir, name string, do func() error) error {
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the demo: %w", err)
	}
	defer func() { _ = file.Close() }() // and with it the lock
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the demo: %w", err)
	}
	return do()
}

// refreshFacts brings the pids in demo.json up to date.
func (d *Demo) refreshFacts() (facts DemoFacts, err error) {
	err = lockedDemo(d.dir, func() error {
		if facts, err = readDemoFacts(d.dir); err != nil {
			return err
		}
		facts.Sidecar.PID = d.sidecarProcess().PID
		for i, n := range facts.Nodes {
			live, err := ReadNodeFacts(d.runDir(n.Name))
			if err != nil {
				return err
			}
			facts.Nodes[i].PID, facts.Nodes[i].GuardPID, facts.Nodes[i].PostmasterPID = live.Agent.PID, live.Guard.PID, live.Postmaster.PID
		}
		return writeJSONFile(d.factsPath(), facts, 0o600)
	})
	return facts, err
}

func readDemoFacts(dir string) (DemoFacts, error) {
	var facts DemoFacts
	content, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil {
		return facts, fmt.Errorf("read demo: %w", err)
	}
	if err := json.Unmarshal(content, &facts); err != nil {
		return facts, fmt.Errorf("%w: read %s: %w", ErrMachine, filepath.Join(dir, "demo.json"), err)
	}
	return facts, nil
}

// UpdateDemo writes one node's processes into DIR/demo.json; nodes of a demo call it whenever they change.
func UpdateDemo(dir, node string, facts NodeFacts) error {
	return lockedDemo(dir, func() error {
		demo, err := readDemoFacts(dir)
		if err != nil {
			return err
		}
		for i, n := range demo.Nodes {
			if n.Name == node {
				demo.Nodes[i].PID, demo.Nodes[i].GuardPID, demo.Nodes[i].PostmasterPID = facts.Agent.PID, facts.Guard.PID, facts.Postmaster.PID
			}
		}
		return writeJSONFile(filepath.Join(dir, "demo.json"), demo, 0o600)
	})
}

// readOptions returns what the demo in the directory was made with; zero when there is none.
func (d *Demo) readOptions() (DemoOptions, error) {
	content, err := os.ReadFile(filepath.Join(d.dir, "options.json"))
	if errors.Is(err, os.ErrNotExist) {
		return DemoOptions{}, nil
	}
	if err != nil {
		return DemoOptions{}, fmt.Errorf("%w: read demo: %w", ErrMachine, err)
	}
	var o struct {
		Port, Nodes int
		Sync        string
	}
	if err := json.Unmarshal(content, &o); err != nil {
		return DemoOptions{}, fmt.Errorf("%w: read %s: %w", ErrMachine, filepath.Join(d.dir, "options.json"), err)
	}
	return DemoOptions{Port: o.Port, Nodes: o.Nodes, Sync: o.Sync}, nil
}

// secretFile makes the file with a random secret unless it is there.
func secretFile(path string) (string, error) {
	err := WriteSecret(path, rand.Text())
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return ReadSecret(path)
}

// stopAll stops standbys, then the primary, then the sidecar. It takes a context from nobody: it runs when that of the
// demo has ended, and has limits of its own.
func (d *Demo) stopAll() error {
	if _, err := os.Stat(d.factsPath()); err != nil {
		return nil // nothing was started yet
	}
	primary := ""
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	if cluster, ok := d.cluster(ctx); ok {
		primary = cluster.PrimaryName()
	}
	cancel()
	order := d.names()
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rankStop(a, primary), rankStop(b, primary)) })
	err := d.stopNodes(order, syscall.SIGINT) // nobody is left to hand over to
	err = errors.Join(err, d.stopSidecar())
	_, factsErr := d.refreshFacts()
	return errors.Join(err, factsErr)
}

func rankStop(name, primary string) int {
	if name == primary {
		return 1
	}
	return 0
}

func (d *Demo) sidecarProcess() Process {
	if pid, err := takeover.Holding(d.takeoverSocket()); err == nil {
		return FindProcess(pid) // it may have taken over from the one that the demo has started
	}
	var p Process
	content, err := os.ReadFile(filepath.Join(d.dir, "sidecar", "process.json"))
	if err != nil || json.Unmarshal(content, &p) != nil || !p.Alive() {
		return Process{}
	}
	return p
}

func (d *Demo) stopSidecar() error {
	p := d.sidecarProcess()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return nil // it does not run
	}
	if !waitGone(demoStopLimit/4, p) {
		_ = p.Signal(syscall.SIGKILL) // it went in between, or goes now
		waitGone(demoStopLimit/4, p)
	}
	return nil
}
