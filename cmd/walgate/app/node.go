package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/agent"
	"github.com/walgate/walgate/ha/api"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// memberLinger is how long the store's member of a stopping standby stays for a primary that may be stopping too and
// needs a majority of the store to release its lease.
const memberLinger = 2 * time.Second

// node is one member of the cluster: a PostgreSQL with its agent, beside what every process has.
type node struct {
	*common
	file     string
	demo     string // directory of the demo that this node belongs to; mostly empty
	instance *postgres.Instance
	agent    *agent.Agent
	report   *store.Registration[ha.NodeReport]
	known    bool          // there was a database cluster in the data directory when this process began
	member   *store.Member // nil with an etcd elsewhere
}

// ErrInterrupted is the cause of a context that ended with SIGINT: the whole cluster stops, and nobody is to take over.
var ErrInterrupted = errors.New("interrupted")

// ErrTerminated is the cause of a context that ended with SIGTERM: this process stops.
var ErrTerminated = errors.New("told to stop")

// RunGuard is the guard process: see package postgres.
func RunGuard(ctx context.Context, args []string) error { return postgres.RunGuard(ctx, args) }

// RunNode runs a member of the cluster until ctx ends, then hands over if it is the primary and another member can take
// over (not when the cause of ctx is ErrInterrupted), stops PostgreSQL and releases the lease. file is read again at SIGHUP; demo is the directory of the demo that the
// node belongs to, if any.
func RunNode(ctx context.Context, cfg Config, file, demo string, stderr io.Writer) error {
	if err := cfg.Validate(KindNode); err != nil {
		return err
	}
	for _, dir := range []string{cfg.Node.StateDir, cfg.Node.RunDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("%w: %w", ErrMachine, err)
		}
	}
	c, err := newCommon(cfg, file, stderr)
	if err != nil {
		return err
	}
	defer func() { _ = c.store.Close() }() // nothing is lost with it
	n := &node{common: c, file: file, demo: demo}
	if err := n.build(); err != nil {
		return err
	}
	defer n.instance.Close()
	if err := n.checkMachine(ctx); err != nil {
		return err
	}
	if err := n.buildAPI(ctx, n); err != nil {
		return err
	}
	if err := n.startMember(); err != nil {
		return errors.Join(err, n.listener.Close())
	}
	return n.run(ctx)
}

// build makes the instance, its agent and its registration.
func (n *node) build() error {
	password, err := ReadSecret(n.cfg.Postgres.SuperuserPasswordFile)
	if err != nil {
		return err
	}
	n.instance, err = postgres.New(n.cfg.instance(n.secret, password), n.log.With("part", "postgres"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	n.report, err = store.NewNodeRegistration(n.registration(), n.store, n.log.With("part", "registration"))
	if err != nil {
		return err
	}
	p := n.cfg.Postgres
	n.agent, err = agent.New(agent.Config{
		Self:   ha.Member{Name: replication.NodeID(n.cfg.Node.Name), Host: n.cfg.Node.Host, Port: p.Port, API: n.cfg.AdvertiseAPI(), Tags: n.cfg.Node.Tags},
		Timing: n.cfg.timing(), Defaults: n.cfg.bootstrap(), StateDir: n.cfg.Node.StateDir, CloneMax: int64(p.CloneMaxRate), Clock: boottime.Now,
		Refresh: n.follower.Wake, Led: n.led, StatementAt: n.statementAt(),
	}, n.store, n.follower.Snapshots(), n.instance, n.report, n.log.With("part", "agent"))
	return err
}

// checkMachine looks for what would stop this node later: programs, ports.
func (n *node) checkMachine(ctx context.Context) error {
	if err := n.instance.CheckBinaries(ctx); err != nil {
		return fmt.Errorf("%w: %w; set postgres.bin_dir", ErrMachine, err)
	}
	dir, err := n.instance.Inspect(ctx)
	if err != nil {
		return fmt.Errorf("%w: inspect %s: %w", ErrMachine, n.cfg.Node.DataDir, err)
	}
	n.known = dir.Presence == postgres.Present
	checks := []error{n.takeInherited(), n.checkPorts()}
	if dir.PostmasterPID == 0 { // else it is the own one, which the agent takes over
		for host := range strings.SplitSeq(n.cfg.listenAddresses(), ",") {
			address := net.JoinHostPort(strings.Trim(host, " *"), strconv.Itoa(n.cfg.Postgres.Port))
			checks = append(checks, CheckPort(address, "postgres.port"))
		}
	}
	if e := n.cfg.Store.Embedded; e.DataDir != "" {
		for key, text := range map[string]string{"peer_listen": e.PeerListen, "client_listen": e.ClientListen} {
			if u, err := url.Parse(text); err == nil { // Validate has checked it
				checks = append(checks, CheckPort(u.Host, "store.embedded."+key))
			}
		}
	}
	return errors.Join(checks...)
}

// statementAt tells when the primary last served a client of this process, to the accuracy of the calls: a PostgreSQL
// that clients see go on does not hang, whatever a probe says. It is for one goroutine.
func (n *node) statementAt() func() replication.Instant {
	var seen uint64
	var at replication.Instant
	return func() replication.Instant {
		if served := n.proxy.Served(); served != seen {
			seen, at = served, boottime.Now()
		}
		return at
	}
}

// led moves the store's leadership away from the new primary's machine, so that losing it costs one election only. It
// waits until the door is open: a change of leadership drops requests, and until then every one of them is waited for.
func (n *node) led(ctx context.Context) {
	if n.member == nil {
		return
	}
	_, err := n.follower.Views().Wait(ctx, func(v replication.View) bool {
		return v.Open || string(v.Primary) != n.cfg.Node.Name
	})
	if err != nil {
		return // the node stops
	}
	if err := n.member.MoveLeader(ctx); err != nil {
		n.log.Info("the store's leadership stays on this node", "err", err)
	}
}

// startMember starts the embedded store. It does not wait for a majority: until there is one, the agent waits.
func (n *node) startMember() (err error) {
	e := n.cfg.Store.Embedded
	if e.DataDir == "" {
		return nil
	}
	peers := e.InitialCluster
	if len(peers) == 0 {
		peers = map[string]string{n.cfg.MemberName(): e.PeerListen}
	}
	t := n.cfg.Store.TLS
	n.member, err = store.StartMember(store.MemberConfig{
		Name: n.cfg.MemberName(), Dir: e.DataDir, PeerURL: e.PeerListen, ClientURL: e.ClientListen, InitialCluster: peers,
		Token: n.cfg.Cluster.Name, Marker: filepath.Join(n.cfg.Node.StateDir, "store-member"), Join: e.Join,
		Known: n.known, CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile,
	}, n.log.With("part", "etcd"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	return nil
}

// run starts everything and takes it down in order: leadership and PostgreSQL first, while clients, store and API go on.
func (n *node) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	background, stopAll := context.WithCancel(context.WithoutCancel(ctx))
	clients, stopClients := context.WithCancel(background)
	agentCtx, stopAgent := context.WithCancel(background)
	n.serve(background)
	n.spawn(background, &n.background, "keep the registration", n.report.Run)
	n.onHangup(background, hangup, n.file)
	n.background.Go(func() { n.keepFacts(background) })
	n.background.Go(func() { n.keepParameters(agentCtx) })
	n.serveProxy(clients, func() {})
	if _, err := n.enrol(clients, proxyID(n.cfg), n.cfg.AdvertiseAPI()); err != nil {
		n.failed <- err // which ends all that runs
	}
	ended := make(chan error, 1)
	go func() { ended <- n.agent.Run(agentCtx) }() // waited for below
	n.log.Info("node runs", "cluster", n.cfg.Cluster.Name, "listen", n.cfg.Proxy.Listen, "api", n.cfg.API.Listen)

	var err error
	agentEnded := false
	select {
	case <-ctx.Done():
		n.log.Info("node stops", "why", context.Cause(ctx))
		if !errors.Is(context.Cause(ctx), ErrInterrupted) {
			n.handOver(background)
		}
	case err = <-n.failed:
		n.log.Error("node stops", "err", err)
	case err = <-ended:
		agentEnded = true
		err = fmt.Errorf("agent: %w", cmp.Or(err, errors.New("ended by itself")))
		n.log.Error("node stops", "err", err)
	}
	n.notify("STOPPING=1")
	stopAgent()
	if !agentEnded {
		if agentErr := <-ended; agentErr != nil && !errors.Is(agentErr, context.Canceled) {
			err = errors.Join(err, fmt.Errorf("agent: %w", agentErr))
		}
	}
	stopClients()
	n.clients.Wait()
	n.linger(background)
	stopAll()
	n.background.Wait()
	n.closeMember()
	return err
}

// memberClose is how long the store's member may take to close. Without a majority it waits several seconds for requests
// that nobody can answer any more; its files are as safe as after a crash.
const memberClose = 2 * time.Second

func (n *node) closeMember() {
	if n.member == nil {
		return
	}
	closed := make(chan struct{})
	go func() { // ends with Close, at the latest with the process, which is what comes next
		defer close(closed)
		n.member.Close()
	}()
	select {
	case <-closed:
	case <-time.After(memberClose):
		n.log.Info("the store's member is left to end with this process")
	}
}

// handOver asks for a switchover when this node is the primary and another one can take over; else it does nothing.
func (n *node) handOver(ctx context.Context) {
	record := n.follower.Snapshots().Load().Record
	if record == nil || string(record.Primary) != n.cfg.Node.Name || len(record.Members) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HA.HandoffTimeout)
	defer cancel()
	result, err := n.api.HandOver(ctx, replication.NodeID(n.cfg.Node.Name))
	if err != nil {
		n.log.Info("nothing handed over", "why", err)
		return
	}
	n.log.Info("handed over", "to", result.To, "epoch", result.Epoch)
}

// linger keeps the store's member for a primary elsewhere that is still there.
func (n *node) linger(ctx context.Context) {
	if n.member == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, memberLinger)
	defer cancel()
	_, _ = n.follower.Snapshots().Wait(ctx, func(s store.Snapshot) bool { // its time is its limit
		if s.Record == nil || string(s.Record.Primary) == n.cfg.Node.Name {
			return true
		}
		_, alive := s.Node(s.Record.Primary)
		return !alive
	})
}

// keepFacts writes RUN_DIR/node.json whenever a process of this node has come or gone.
func (n *node) keepFacts(ctx context.Context) {
	self := FindProcess(os.Getpid())
	for {
		processes, changed := n.instance.Processes().Changed()
		facts := NodeFacts{Agent: self, Guard: FindProcess(processes.Guard), Postmaster: FindProcess(processes.Postmaster)}
		n.writeFacts(facts)
		select {
		case <-changed:
		case <-ctx.Done():
			processes := n.instance.Processes().Load()
			n.writeFacts(NodeFacts{Guard: FindProcess(processes.Guard), Postmaster: FindProcess(processes.Postmaster)})
			return
		}
	}
}

func (n *node) writeFacts(facts NodeFacts) {
	err := WriteNodeFacts(n.cfg.Node.RunDir, facts)
	if n.demo != "" {
		err = errors.Join(err, UpdateDemo(n.demo, n.cfg.Node.Name, facts))
	}
	if err != nil {
		n.log.Warn("pid facts not written", "err", err)
	}
}

// ServerVersion implements api.Local.
func (n *node) ServerVersion() int { return n.agent.Status().Load().Facts.Version }

// Reload implements api.Local.
func (n *node) Reload(context.Context) error { return n.reload(n.file) }

// Restart implements api.Local: PostgreSQL is stopped, and the agent starts it again because it should run.
func (n *node) Restart(ctx context.Context) error {
	if err := n.standbyOnly("restarted"); err != nil {
		return err
	}
	before := n.instance.Processes().Load()
	if _, err := n.instance.StopFast(ctx); err != nil {
		return err
	}
	_, err := n.agent.Status().Wait(ctx, func(s agent.Status) bool {
		return s.Alive && s.Process.Postmaster != 0 && s.Process.StartTime != before.StartTime
	})
	return err
}

// Reinitialize implements api.Local.
func (n *node) Reinitialize(ctx context.Context) error {
	if err := n.standbyOnly("reinitialized"); err != nil {
		return err
	}
	return n.agent.Reinitialize(ctx)
}

// standbyOnly refuses what would end the service of a primary.
func (n *node) standbyOnly(what string) error {
	record := n.follower.Snapshots().Load().Record
	switch {
	case record == nil || !slices.ContainsFunc(record.Members, func(m ha.Member) bool { return string(m.Name) == n.cfg.Node.Name }):
		return fmt.Errorf("%w: this node is not yet a member of the cluster", api.ErrRefused)
	case string(record.Primary) == n.cfg.Node.Name:
		return fmt.Errorf("%w: this node is the primary; switch over first, then it can be %s", api.ErrRefused, what)
	}
	return nil
}
