package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/replication"
)

// world is the network between fake instances.
type world struct {
	mu    sync.Mutex
	byKey map[string]*fakePG // host:port
	pids  int
	clock func() replication.Instant
}

// fakePG is a PostgreSQL without data: it has a timeline, a position and an upstream. Replication is instantaneous and
// happens whenever somebody looks.
type fakePG struct {
	w    *world
	node replication.NodeID
	life replication.Feed[postgres.Processes]

	// w.mu guards the rest
	present    bool
	system     string
	control    string
	timeline   replication.Timeline
	history    replication.History
	lsn        replication.LSN
	inRecovery bool
	upstream   postgres.Upstream
	names      string
	slots      map[string]bool
	deadline   postgres.Deadline
	moves      []string
	cut        bool // others can't reach it
}

func (w *world) add(node replication.NodeID, port int) *fakePG {
	p := &fakePG{w: w, node: node, slots: map[string]bool{}}
	w.byKey[fmt.Sprintf("127.0.0.1:%d", port)] = p
	p.life.Publish(postgres.Processes{Guard: 1})
	return p
}

func (p *fakePG) note(format string, args ...any) {
	p.moves = append(p.moves, fmt.Sprintf(format, args...))
}

func (p *fakePG) running() bool { return p.life.Load().Postmaster != 0 }

// stream brings a standby to its upstream's position. The caller holds w.mu.
func (p *fakePG) stream() bool {
	up := p.w.byKey[fmt.Sprintf("%s:%d", p.upstream.Host, p.upstream.Port)]
	if !p.inRecovery || !p.running() || up == nil || !up.running() || up.cut || p.cut || up.system != p.system {
		return false
	}
	up.stream()
	if up.timeline < p.timeline || up.timeline == p.timeline && up.lsn < p.lsn {
		return false
	}
	if end, ok := up.history.EndOf(p.timeline); ok && end < p.lsn {
		return false
	}
	p.timeline, p.history, p.lsn = up.timeline, up.history, up.lsn
	return true
}

func (p *fakePG) lock() func() {
	p.w.mu.Lock()
	return p.w.mu.Unlock
}

func (p *fakePG) Attach(context.Context) (postgres.Processes, error) { return p.life.Load(), nil }

func (p *fakePG) Processes() *replication.Feed[postgres.Processes] { return &p.life }

func (p *fakePG) Arm(_ context.Context, d postgres.Deadline) error {
	defer p.lock()()
	p.deadline = d
	return nil
}

func (p *fakePG) Disarm(context.Context, string) error {
	defer p.lock()()
	p.deadline = postgres.Deadline{}
	return nil
}

func (p *fakePG) QuitGuard(context.Context) error { return nil }

func (p *fakePG) Inspect(context.Context) (postgres.DataDir, error) {
	defer p.lock()()
	if !p.present {
		return postgres.DataDir{}, nil
	}
	return postgres.DataDir{Presence: postgres.Present, Timeline: p.timeline, History: p.history,
		Control: postgres.Control{SystemID: p.system, State: p.control, CheckpointTimeline: p.timeline}}, nil
}

func (p *fakePG) Status(context.Context) (postgres.Facts, error) {
	defer p.lock()()
	if !p.running() {
		return postgres.Facts{}, postgres.ErrNotRunning
	}
	streams := p.stream()
	f := postgres.Facts{At: p.w.clock(), SystemID: p.system, InRecovery: p.inRecovery, Timeline: p.timeline,
		Position: p.lsn, SyncNames: p.names, ReplayComplete: p.inRecovery, Checkpointed: true}
	for _, s := range slices.Sorted(maps.Keys(p.slots)) {
		f.Slots = append(f.Slots, postgres.Slot{Name: s, Ours: true, Physical: true})
	}
	if p.inRecovery {
		f.Received, f.Replayed = p.lsn, p.lsn
		if streams {
			f.Receiver = &postgres.Receiver{Status: "streaming", SenderHost: p.upstream.Host, SenderPort: p.upstream.Port}
		}
		return f, nil
	}
	p.lsn += 0x100
	f.Flush = p.lsn
	for _, other := range p.w.byKey {
		if other != p && other.upstream.Node == p.node && other.stream() {
			f.Replicas = append(f.Replicas, postgres.Replica{ApplicationName: other.node, State: "streaming",
				SyncState: "quorum", Flush: other.lsn, Replay: other.lsn})
		}
	}
	return f, nil
}

func (p *fakePG) Initdb(context.Context) error {
	defer p.lock()()
	p.note("initdb")
	p.present, p.system, p.control, p.timeline, p.lsn = true, "sys-"+string(p.node), "shut down", 1, 0x1000000
	return nil
}

func (p *fakePG) Start(_ context.Context, o postgres.StartOptions) error {
	defer p.lock()()
	p.note("start after %s", o.Follow.Node)
	p.w.pids++
	p.inRecovery, p.upstream, p.control = true, o.Follow, "in archive recovery"
	p.life.Publish(postgres.Processes{Guard: 1, Postmaster: 5_000_000 + p.w.pids, StartTime: uint64(p.w.pids)})
	return nil
}

func (p *fakePG) Follow(_ context.Context, up postgres.Upstream) error {
	defer p.lock()()
	p.note("follow %s", up.Node)
	p.upstream = up
	return nil
}

func (p *fakePG) Freeze(context.Context) (postgres.Position, error) {
	defer p.lock()()
	p.note("freeze")
	p.upstream = postgres.Upstream{}
	return postgres.Position{Timeline: p.timeline, LSN: p.lsn}, nil
}

func (p *fakePG) Capture(context.Context) (postgres.Captured, error) {
	defer p.lock()()
	return postgres.Captured{NextXID: 1000, Replayed: p.lsn}, nil
}

func (p *fakePG) Promote(context.Context) (postgres.Promotion, error) {
	defer p.lock()()
	p.note("promote")
	p.history = append(slices.Clone(p.history), replication.Switch{Timeline: p.timeline, LSN: p.lsn})
	p.timeline++
	p.inRecovery, p.control = false, "in production"
	return postgres.Promotion{Timeline: p.timeline, ForkLSN: p.lsn}, nil
}

func (p *fakePG) Checkpoint(context.Context) error  { return nil }
func (p *fakePG) EnsureRoles(context.Context) error { return nil }

func (p *fakePG) SetSync(_ context.Context, names []replication.NodeID, quorum int) error {
	defer p.lock()()
	p.names = ""
	if len(names) > 0 {
		var q []string
		for _, n := range names {
			q = append(q, `"`+string(n)+`"`)
		}
		p.names = fmt.Sprintf("ANY %d (%s)", quorum, strings.Join(q, ", "))
	}
	p.note("names %s", p.names)
	return nil
}

func (p *fakePG) SetParameters(context.Context, map[string]string) ([]string, error) { return nil, nil }

func (p *fakePG) EnsureSlots(_ context.Context, want []replication.NodeID) error {
	defer p.lock()()
	clear(p.slots)
	for _, n := range want {
		p.slots[postgres.SlotName(n)] = true
	}
	return nil
}

func (p *fakePG) DropSlots(context.Context) error { return p.EnsureSlots(context.Background(), nil) }

func (p *fakePG) StopFast(context.Context) (postgres.Stopped, error) {
	defer p.lock()()
	p.note("stop")
	p.control = "shut down"
	if p.inRecovery {
		p.control = "shut down in recovery"
	} else {
		for _, other := range p.w.byKey {
			other.stream() // the shutdown checkpoint reaches who streams
		}
	}
	p.life.Publish(postgres.Processes{Guard: 1})
	return postgres.Stopped{Clean: true, Timeline: p.timeline, End: p.lsn}, nil
}

func (p *fakePG) KillWhole(context.Context) error {
	defer p.lock()()
	p.note("kill")
	p.life.Publish(postgres.Processes{Guard: 1, Fenced: p.life.Load().Fenced + 1})
	return nil
}

// crash kills the postmaster as kill -9 would, with the WAL that nobody has.
func (p *fakePG) crash(tail replication.LSN) {
	defer p.lock()()
	p.lsn += tail
	p.life.Publish(postgres.Processes{Guard: 1})
}

func (p *fakePG) EndOfWAL(context.Context, replication.Timeline, replication.LSN) (replication.LSN, error) {
	defer p.lock()()
	return p.lsn, nil
}

func (p *fakePG) Clone(_ context.Context, o postgres.CloneOptions) error {
	defer p.lock()()
	up := p.w.byKey[fmt.Sprintf("%s:%d", o.Source.Host, o.Source.Port)]
	if up == nil || !up.running() {
		return errors.New("source is not there")
	}
	p.note("clone from %s", o.Source.Node)
	p.present, p.system, p.control = true, up.system, "in archive recovery"
	p.timeline, p.history, p.lsn = up.timeline, up.history, up.lsn
	return nil
}

func (p *fakePG) Rewind(ctx context.Context, o postgres.RewindOptions) (postgres.Loss, error) {
	err := p.Clone(ctx, postgres.CloneOptions{Source: o.Source})
	defer p.lock()()
	p.note("(by rewind)")
	return postgres.Loss{}, err
}

func (p *fakePG) Reclone(ctx context.Context, o postgres.CloneOptions) error { return p.Clone(ctx, o) }
func (p *fakePG) Maintain()                                                  {}
func (p *fakePG) SetAside(context.Context) (string, error)                   { return "aside", nil }
func (p *fakePG) DropDiverged(context.Context) error                         { return nil }

func (p *fakePG) UpstreamFacts(_ context.Context, host string, port int) (postgres.UpstreamFacts, error) {
	defer p.lock()()
	up := p.w.byKey[fmt.Sprintf("%s:%d", host, port)]
	if up == nil || !up.running() {
		return postgres.UpstreamFacts{}, errors.New("connection refused")
	}
	return postgres.UpstreamFacts{SystemID: up.system, Timeline: up.timeline, Flush: up.lsn, History: up.history,
		InRecovery: up.inRecovery, Checkpointed: true}, nil
}
