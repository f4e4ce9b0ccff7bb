package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// Postgres is the instance that the agent moves, one method per move; *postgres.Instance is one.
type Postgres interface {
	Attach(ctx context.Context) (postgres.Processes, error)
	Processes() *replication.Feed[postgres.Processes]
	Arm(ctx context.Context, d postgres.Deadline) error
	Disarm(ctx context.Context, why string) error
	QuitGuard(ctx context.Context) error
	Inspect(ctx context.Context) (postgres.DataDir, error)
	Status(ctx context.Context) (postgres.Facts, error)
	Initdb(ctx context.Context) error
	Start(ctx context.Context, o postgres.StartOptions) error
	Follow(ctx context.Context, up postgres.Upstream) error
	Freeze(ctx context.Context) (postgres.Position, error)
	Capture(ctx context.Context) (postgres.Captured, error)
	Promote(ctx context.Context) (postgres.Promotion, error)
	Checkpoint(ctx context.Context) error
	EnsureRoles(ctx context.Context) error
	SetSync(ctx context.Context, names []replication.NodeID, quorum int) error
	SetParameters(ctx context.Context, p map[string]string) (restart []string, err error)
	EnsureSlots(ctx context.Context, want []replication.NodeID) error
	DropSlots(ctx context.Context) error
	StopFast(ctx context.Context) (postgres.Stopped, error)
	KillWhole(ctx context.Context) error
	EndOfWAL(ctx context.Context, tl replication.Timeline, from replication.LSN) (replication.LSN, error)
	Clone(ctx context.Context, o postgres.CloneOptions) error
	Rewind(ctx context.Context, o postgres.RewindOptions) (postgres.Loss, error)
	Reclone(ctx context.Context, o postgres.CloneOptions) error
	SetAside(ctx context.Context) (string, error)
	DropDiverged(ctx context.Context) error
	Maintain()
	UpstreamFacts(ctx context.Context, host string, port int) (postgres.UpstreamFacts, error)
}

// Config says which node this is. Nothing is defaulted here.
type Config struct {
	Self     ha.Member
	Timing   ha.Timing
	Defaults ha.Bootstrap
	StateDir string // holds the agent's memory across restarts; not inside the data directory
	CloneMax int64  // bytes per second of a clone, 0: not limited

	// Clock reads CLOCK_BOOTTIME.
	Clock func() replication.Instant
	// StatementAt tells when a local proxy last saw a statement succeed; nil: no local proxy.
	StatementAt func() replication.Instant
	// Refresh asks for a fresh read of the store, soon; it must not block.
	Refresh func()
	// Led is called, from a goroutine of the agent's, some seconds after this node has opened an epoch; nil: nothing to do.
	Led func(ctx context.Context)
}

// Agent owns one node. Run may be called once.
type Agent struct {
	// set at construction, then constant
	cfg       Config
	store     *store.Store
	snapshots *replication.Feed[store.Snapshot]
	pg        Postgres
	register  *store.Registration[ha.NodeReport]
	log       *slog.Logger

	apply  chan func()   // what hands and probes bring; carried out by the loop. Never closed
	asked  chan struct{} // wakes the prober, capacity 1. Never closed
	guards chan postgres.Deadline
	status replication.Feed[Status]
	wg     sync.WaitGroup // hands, prober and guard keeper

	maintaining atomic.Bool

	// everything below belongs to the loop
	nonce       string
	known       knowledge
	lease       ha.Lease
	memory      memory
	inst        instance
	leaseH      hand[ha.LeaseMove]
	pgH         hand[ha.PostgresMove]
	init        initLock
	pgLast      ha.PostgresMove // the last move of the PostgreSQL hand that ended, and when
	pgEnded     replication.Instant
	timing      ha.Timing
	lastWhy     string
	lastWarning string
	reported    ha.NodeReport
	armed       postgres.Deadline   // the deadline that was handed to the guard keeper last
	adopted     replication.Instant // the guard's deadline that was found at the start, until its beat has been read
}

// Status is what the agent last decided, for the API.
type Status struct {
	Decision ha.Decision
	State    string // of NodeReport
	Role     string
	Holder   bool // this node holds the lease
	Data     postgres.DataDir
	Facts    postgres.Facts
	Alive    bool // Facts are fresh
	Process  postgres.Processes
}

// hand is a hand at work, or idle.
type hand[M any] struct {
	busy   bool
	since  replication.Instant
	move   M
	cancel context.CancelCauseFunc
}

// initLock is the lock on initdb, while this node holds it.
type initLock struct {
	lease store.Lease
	rev   int64
}

// New returns the agent of one node. register may not be nil: other nodes judge by it who is alive.
func New(cfg Config, s *store.Store, snapshots *replication.Feed[store.Snapshot], pg Postgres,
	register *store.Registration[ha.NodeReport], log *slog.Logger) (*Agent, error) {
	if err := cfg.Timing.Validate(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if cfg.Self.Name == "" || cfg.StateDir == "" || cfg.Refresh == nil || cfg.Clock == nil {
		return nil, errors.New("agent: a name, a state directory, a clock and a way to refresh are required")
	}
	nonce := make([]byte, 8)
	rand.Read(nonce) //nolint:errcheck // never fails since Go 1.24
	return &Agent{
		cfg: cfg, store: s, snapshots: snapshots, pg: pg, register: register,
		log:   log.With("node", cfg.Self.Name),
		apply: make(chan func()), asked: make(chan struct{}, 1), guards: make(chan postgres.Deadline, 1),
		nonce: hex.EncodeToString(nonce), timing: cfg.Timing,
	}, nil
}

// Status is the feed of what the agent decided last.
func (a *Agent) Status() *replication.Feed[Status] { return &a.status }

// Run owns the node until ctx ends; then it stops PostgreSQL, releases the lease if it holds it, and returns.
func (a *Agent) Run(ctx context.Context) error {
	mem, err := readMemory(a.cfg.StateDir)
	if err != nil {
		return err
	}
	a.memory = mem
	if err := a.attach(ctx); err != nil {
		return err
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	a.wg.Go(func() { a.probe(work) })
	a.wg.Go(func() { a.watchState(work) })
	a.wg.Go(func() { a.keepGuard(work) })
	a.loop(ctx, work)
	cancel(errStopping)
	a.drain()
	return a.stop(context.WithoutCancel(ctx))
}

var errStopping = errors.New("the agent is stopping")

// attachLimit is how long a guard may take to answer a new agent.
const attachLimit = 5 * time.Second

// attach takes over what runs already: guard, postmaster, and a lease that the guard still knows.
func (a *Agent) attach(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, attachLimit)
	procs, err := a.pg.Attach(limit)
	cancel()
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		// A guard that does not answer does not guard: nothing of the instance may go on.
		kill, cancel := context.WithTimeout(ctx, killLimit)
		err = errors.Join(err, a.pg.KillWhole(kill))
		cancel()
	}
	if err != nil {
		return fmt.Errorf("attach to the guard: %w", err)
	}
	a.inst.procs = procs
	dir, err := a.pg.Inspect(ctx)
	if err != nil {
		return fmt.Errorf("inspect the data directory: %w", err)
	}
	a.inst.setDir(dir, a.cfg.Clock())
	if d := procs.Deadline; procs.Postmaster != 0 && d.Armed() {
		a.nonce = d.Nonce
		a.lease = ha.Lease{Nonce: d.Nonce, Epoch: d.Epoch, SentAt: d.At.Add(-a.timing.TTL + a.timing.Margin - a.timing.Kill)}
		a.adopted = d.At
		a.log.Info("adopted a running primary", "epoch", d.Epoch)
	}
	return nil
}

// countAdopted counts an adopted lease from the right instant once its beat has been read: the guard's deadline was made
// with the TTL of that beat, which may not be this configuration's.
func (a *Agent) countAdopted() {
	beat := a.known.snap.Beat
	if a.adopted == 0 || beat == nil {
		return
	}
	if beat.Nonce == a.lease.Nonce && beat.Epoch == a.lease.Epoch && beat.TTL > 0 {
		sent := a.adopted.Add(-beat.TTL + a.cfg.Timing.Margin - a.cfg.Timing.Kill)
		a.lease.SentAt = min(a.lease.SentAt, sent)
	}
	a.adopted = 0
}

// loop observes, decides and acts until ctx ends. work outlives it, for the hands.
func (a *Agent) loop(ctx, work context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		snap, newSnap := a.snapshots.Changed()
		procs, newProcs := a.pg.Processes().Changed()
		now := a.cfg.Clock()
		a.known.take(snap, now, &a.lease)
		a.inst.setProcesses(procs, now)
		if r := a.known.snap.Record; r != nil && a.memory.Fresh && r.SystemID == a.inst.dir.Control.SystemID {
			a.remember(func(mem *memory) { mem.Fresh = false }) // somebody may rely on this directory now
		}
		a.countAdopted()
		wake := a.step(work)
		timer.Reset(wake)
		select {
		case <-ctx.Done():
			return
		case <-newSnap:
		case <-newProcs:
		case f := <-a.apply:
			f()
		case <-timer.C:
		}
	}
}

// step decides once and sets the hands to work. It returns when to look again at the latest.
func (a *Agent) step(work context.Context) time.Duration {
	o := a.observe()
	d := ha.Decide(o)
	a.guardUntil(o, d)
	a.act(work, o, d)
	a.tell(o, d)
	if urgent(o.Instance) {
		a.askProbe()
	}
	if k := &a.known; k.snap.Beat != nil && k.beatSince != 0 && k.snap.SentAt < k.beatSince.Add(a.timing.TTL) &&
		o.Now >= k.beatSince.Add(a.timing.TTL) {
		a.cfg.Refresh() // only a read sent after the ttl proves that the beat has run out
	}
	wake := a.timing.Renew / 2
	if d.WakeAt != 0 {
		wake = min(wake, max(d.WakeAt.Sub(a.cfg.Clock()), time.Millisecond))
	}
	return wake
}

// act hands the moves to idle hands. A fence interrupts whatever the PostgreSQL hand does.
func (a *Agent) act(work context.Context, o ha.Observation, d ha.Decision) {
	if !a.leaseH.busy && d.Lease.Kind != ha.LeaseKeep && d.Lease.Kind != "" {
		a.startLease(work, d.Lease)
	}
	if d.Postgres.Kind == ha.PostgresLeave || d.Postgres.Kind == "" {
		return
	}
	if d.Postgres.Kind == ha.PostgresCheckpoint {
		a.startCheckpoint(work, o)
		return
	}
	if a.pgH.busy {
		if d.Postgres.Kind == ha.PostgresKillWhole && a.pgH.move.Kind != ha.PostgresKillWhole {
			a.pgH.cancel(errFence)
		}
		return
	}
	if again := a.cfg.Clock() < a.pgEnded.Add(sameMovePause) && reflect.DeepEqual(d.Postgres, a.pgLast); again {
		return // it has just been done, and does not show yet
	}
	a.startPostgres(work, d.Postgres)
}

// sameMovePause is the least time between two equal moves of the PostgreSQL hand.
const sameMovePause = 100 * time.Millisecond

var errFence = errors.New("interrupted by a fence")

// post brings f to the loop; it is lost when the loop has ended.
func (a *Agent) post(work context.Context, f func()) {
	select {
	case a.apply <- f:
	case <-work.Done():
	}
}

// drain waits for the hands after the loop has ended, and forgets what they bring.
func (a *Agent) drain() {
	if a.leaseH.cancel != nil {
		a.leaseH.cancel(errStopping)
	}
	if a.pgH.cancel != nil {
		a.pgH.cancel(errStopping)
	}
	a.wg.Wait()
}

// askProbe wakes the prober.
func (a *Agent) askProbe() {
	select {
	case a.asked <- struct{}{}:
	default:
	}
}

// urgent reports whether the next answer of PostgreSQL is waited for: it starts, a frozen standby finishes replay before
// it votes or is promoted, or names have been set and their floor is not known.
func urgent(i ha.Instance) bool {
	switch i.Process {
	case ha.ProcessStarting:
		return true
	case ha.ProcessRunning:
		return i.InRecovery && i.Follows == "" && !i.ReplayComplete || i.NamesInForce && i.NamesFloor == 0
	default:
		return false
	}
}
