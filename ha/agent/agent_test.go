package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// cluster is three agents in one bubble: the real loop, hands, store semantics and Decide, over fake instances.
type cluster struct {
	t     *testing.T
	ctx   context.Context
	fake  *store.Fake
	read  *store.Store
	w     *world
	pgs   map[replication.NodeID]*fakePG
	stops map[replication.NodeID]func()
	mode  ha.SyncMode
}

func newCluster(t *testing.T, mode ha.SyncMode) *cluster {
	start := time.Now()
	clock := func() replication.Instant { return replication.Instant(time.Since(start) + time.Hour) }
	fake := store.NewFake(clock, time.Second)
	c := &cluster{t: t, ctx: t.Context(), fake: fake, read: fake.Store("test", nil),
		w:   &world{byKey: map[string]*fakePG{}, clock: clock},
		pgs: map[replication.NodeID]*fakePG{}, stops: map[replication.NodeID]func(){}, mode: mode}
	for i := range 3 {
		name := replication.NodeID(fmt.Sprintf("node%d", i+1))
		c.pgs[name] = c.w.add(name, 7001+i)
	}
	return c
}

// run starts the agent of the node; the cluster's stops end it.
func (c *cluster) run(name replication.NodeID, port int, dir string) {
	ctx, cancel := context.WithCancel(c.ctx)
	log := slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("n", name)
	s := c.fake.Store("test", nil)
	timing := ha.DefaultTiming()
	follower, err := store.NewFollower(store.FollowerConfig{Period: timing.Renew, Timeout: timing.RPC,
		Margin: 500 * time.Millisecond, Clock: c.w.clock}, s, log)
	if err != nil {
		c.t.Fatal(err)
	}
	reg, err := store.NewNodeRegistration(store.RegistrationConfig{TTL: 5 * time.Second, Timeout: time.Second}, s, log)
	if err != nil {
		c.t.Fatal(err)
	}
	a, err := New(Config{
		Self: ha.Member{Name: name, Host: "127.0.0.1", Port: port}, Timing: timing, StateDir: dir, Clock: c.w.clock,
		Refresh: follower.Wake,
		Defaults: ha.Bootstrap{Cluster: "test", Sync: ha.Sync{Mode: c.mode, Quorum: 1},
			Settings: ha.Settings{TTL: timing.TTL, MaximumLag: 1 << 20, OnCrash: "auto", ColdStartWait: 30 * time.Second}},
	}, s, follower.Snapshots(), c.pgs[name], reg, log)
	if err != nil {
		c.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = follower.Run(ctx) })
	wg.Go(func() { _ = reg.Run(ctx) })
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			c.t.Errorf("%s: %v", name, err)
		}
	})
	c.stops[name] = func() { cancel(); wg.Wait() }
}

func (c *cluster) start() {
	for i := range 3 {
		c.run(replication.NodeID(fmt.Sprintf("node%d", i+1)), 7001+i, c.t.TempDir())
	}
}

func (c *cluster) stop() {
	for _, s := range c.stops {
		s()
	}
	c.fake.Settle()
}

// settled waits, in a bubble, until the record is open with a primary other than not, and both others stream.
func (c *cluster) settled(not replication.NodeID, limit time.Duration) (ha.Record, time.Duration) {
	c.t.Helper()
	began := time.Now()
	opened := time.Duration(0)
	for time.Since(began) < limit {
		snap, err := c.read.Read(c.ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		if r := snap.Record; r != nil && r.Open && r.Primary != not {
			if opened == 0 {
				opened = time.Since(began)
			}
			streaming := 0
			for _, n := range snap.Nodes {
				if n.State == "streaming" {
					streaming++
				}
			}
			if streaming == 2 && (c.mode == ha.SyncOff || len(r.Sync.Voters) == 2) {
				return *r, opened
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	snap, _ := c.read.Read(c.ctx)
	c.t.Fatalf("not settled within %v (open after %v): record %+v, nodes %+v", limit, opened, snap.Record, snap.Nodes)
	return ha.Record{}, 0
}

func TestClusterLife(t *testing.T) {
	for _, mode := range []ha.SyncMode{ha.SyncOff, ha.SyncQuorum, ha.SyncStrict} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, mode)
				c.start()
				defer c.stop()
				r, _ := c.settled("", time.Minute)
				c.pgs[r.Primary].crash(0)
				next, took := c.settled("", time.Minute)
				if next.Epoch <= r.Epoch {
					// settled saw the old epoch before the crash was noticed
					next, took = c.settled(r.Primary, time.Minute)
				}
				t.Logf("postmaster crash: epoch %d, open after %v", next.Epoch, took)
				c.stops[next.Primary]()
				delete(c.stops, next.Primary)
				snap, err := c.read.Read(t.Context())
				if err != nil || snap.Beat.Release == nil || snap.Beat.Release.Kind != ha.ReleaseClean {
					t.Fatalf("after a planned stop: beat %+v, err %v; want a clean release", snap.Beat, err)
				}
			})
		})
	}
}
