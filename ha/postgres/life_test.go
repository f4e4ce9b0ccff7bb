package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

func TestLife(t *testing.T) {
	n1 := newPrimary(t, "n1")
	ctx := limit(t, 3*time.Minute)
	f, err := n1.Status(ctx)
	must(t, err)
	if f.InRecovery || f.Timeline != 2 || f.Settings.MaxConnections != 30 || !f.Flush.Known() || f.Version < 130000 {
		t.Fatalf("facts of the new primary: %+v", f)
	}
	must(t, n1.Checkpoint(ctx))
	must(t, n1.EnsureRoles(ctx)) // again: nothing to do
	n2 := newInstance(t, "n2")
	must(t, n1.EnsureSlots(ctx, []replication.NodeID{"n2", "N-3"}))
	var progress uint64
	must(t, n2.Clone(ctx, CloneOptions{Source: n1.upstream(), Progress: func(done, _ uint64) { progress = done }}))
	if progress == 0 {
		t.Error("the clone told no progress")
	}
	up, err := n2.UpstreamFacts(ctx, "127.0.0.1", n1.cfg.Port)
	must(t, err)
	if up.InRecovery || up.Timeline != 2 || len(up.History) != 1 || up.SystemID != f.SystemID || !up.Checkpointed ||
		!up.WALFrom.Known() || up.Minimums.MaxConnections != 30 {
		t.Fatalf("upstream facts: %+v", up)
	}
	must(t, n2.Start(ctx, StartOptions{Follow: n1.upstream(), Minimums: up.Minimums}))
	must(t, n2.Start(ctx, StartOptions{Follow: n1.upstream(), Minimums: up.Minimums})) // again
	n1.sql(t, "CREATE TABLE t (i int); INSERT INTO t SELECT generate_series(1, 1000)")
	g := streams(t, n2, n1)
	if !g.InRecovery || g.Receiver.SenderPort != n1.cfg.Port || g.Receiver.Slot != "walgate_n2" || g.Follows.Node != "n1" {
		t.Fatalf("facts of the standby: %+v", g)
	}
	t.Run("synchronous", func(t *testing.T) { lifeSync(t, n1) })
	t.Run("freeze", func(t *testing.T) { lifeFreeze(t, n1, n2) })
	t.Run("slots", func(t *testing.T) { lifeSlots(t, n1) })
	t.Run("parameters", func(t *testing.T) { lifeParameters(t, n1) })
	t.Run("crash and rewind", func(t *testing.T) { lifeRewind(t, n1, n2) })
	t.Run("reclone", func(t *testing.T) { lifeReclone(t, n1, n2) })
	t.Run("switchover", func(t *testing.T) { lifeSwitchover(t, n1, n2) })
}

func lifeSync(t *testing.T, n1 *Instance) {
	ctx := limit(t, time.Minute)
	must(t, n1.SetSync(ctx, []replication.NodeID{"n2", `n"3`}, 1))
	f, err := n1.Status(ctx)
	must(t, err)
	if f.SyncNames != `ANY 1 ("n""3", "n2")` || len(f.Replicas) != 1 || f.Replicas[0].SyncState != "quorum" {
		t.Fatalf("facts: %+v", f)
	}
	n1.sql(t, "ALTER SYSTEM SET synchronous_standby_names = ''; ")
	must(t, n1.SetSync(ctx, []replication.NodeID{"n2"}, 1))
	if got := n1.sql(t, "SHOW synchronous_standby_names"); got != `ANY 1 ("n2")` {
		t.Fatalf("after ALTER SYSTEM the names are %q", got)
	}
	n1.sql(t, "INSERT INTO t VALUES (0)") // acknowledged by n2
	must(t, n1.SetSync(ctx, nil, 0))
	if got := n1.sql(t, "SHOW synchronous_standby_names"); got != "" {
		t.Fatalf("cleared names are %q", got)
	}
}

func lifeFreeze(t *testing.T, n1, n2 *Instance) {
	ctx := limit(t, time.Minute)
	p, err := n2.Freeze(ctx)
	must(t, err)
	n1.sql(t, "INSERT INTO t SELECT generate_series(1, 1000)")
	f, err := n2.Status(ctx)
	must(t, err)
	if f.Receiver != nil || f.Position != p.LSN || p.Timeline != 2 || f.Follows != (Upstream{}) {
		t.Fatalf("frozen at %+v, then %+v", p, f)
	}
	again, err := n2.Freeze(ctx)
	must(t, err)
	if again != p {
		t.Fatalf("frozen at %+v and at %+v", p, again)
	}
	c, err := n2.Capture(ctx)
	must(t, err)
	if c.Replayed > p.LSN || c.NextXID == 0 {
		t.Fatalf("captured %+v", c)
	}
	must(t, n2.Follow(ctx, n1.upstream()))
	streams(t, n2, n1)
}

func lifeSlots(t *testing.T, n1 *Instance) {
	ctx := limit(t, time.Minute)
	n1.sql(t, "SELECT pg_create_physical_replication_slot('somebody')")
	must(t, n1.EnsureSlots(ctx, []replication.NodeID{"n2", "n4"}))
	f, err := n1.Status(ctx)
	must(t, err)
	var names []string
	for _, s := range f.Slots {
		names = append(names, s.Name)
		if s.Ours != strings.HasPrefix(s.Name, "walgate_") || s.Ours && !s.Restart.Known() {
			t.Errorf("slot %+v", s)
		}
	}
	if got := strings.Join(names, " "); got != "somebody walgate_n2 walgate_n4" {
		t.Fatalf("slots: %s", got)
	}
}

func lifeParameters(t *testing.T, n1 *Instance) {
	ctx := limit(t, time.Minute)
	p := map[string]string{"shared_buffers": "16MB", "max_connections": "40", "work_mem": "5MB", "max_prepared_transactions": "0"}
	restart, err := n1.SetParameters(ctx, p)
	must(t, err)
	if strings.Join(restart, " ") != "max_connections" || n1.sql(t, "SHOW work_mem") != "5MB" {
		t.Fatalf("restart needed for %v, work_mem %s", restart, n1.sql(t, "SHOW work_mem"))
	}
	for _, bad := range []string{"no_such_setting", "primary_conninfo", "fsync", "x;y"} {
		if _, err := n1.SetParameters(ctx, map[string]string{bad: "1"}); !errors.Is(err, ErrParameter) {
			t.Errorf("parameter %s: %v", bad, err)
		}
	}
}

// lifeRewind kills the primary, promotes the standby, and brings the old primary back with pg_rewind.
func lifeRewind(t *testing.T, n1, n2 *Instance) {
	ctx := limit(t, 2*time.Minute)
	fork, err := n2.Freeze(ctx)
	must(t, err)
	n1.sql(t, "INSERT INTO t VALUES (1)")
	n1.sql(t, "INSERT INTO t VALUES (-1)")
	sample, err := n1.Status(ctx)
	must(t, err)
	must(t, n1.KillWhole(ctx))
	end, err := n1.EndOfWAL(ctx, 2, sample.Flush)
	must(t, err)
	fromCheckpoint, err := n1.EndOfWAL(ctx, 2, 0)
	must(t, err)
	if end < sample.Flush || end != fromCheckpoint {
		t.Fatalf("WAL ends at %s, from the checkpoint %s, sampled %s", end, fromCheckpoint, sample.Flush)
	}
	p, err := n2.Promote(ctx)
	must(t, err)
	if p.Timeline != 3 || p.ForkLSN != fork.LSN || p.NextXID == 0 {
		t.Fatalf("promoted: %+v, frozen at %+v", p, fork)
	}
	again, err := n2.Promote(ctx)
	must(t, err)
	if !again.Already || again.ForkLSN != p.ForkLSN {
		t.Fatalf("promoted again: %+v", again)
	}
	must(t, n2.Checkpoint(ctx))
	must(t, n2.EnsureSlots(ctx, []replication.NodeID{"n1"}))
	loss, err := n1.Rewind(ctx, RewindOptions{Source: n2.upstream(), Fork: Position{Timeline: 2, LSN: fork.LSN}})
	must(t, err)
	if loss.Commits != 2 || loss.EndLSN != end || len(loss.Files) == 0 || !exists(filepath.Join(loss.Dir, "loss.json")) {
		t.Fatalf("loss: %+v", loss)
	}
	must(t, n1.Start(ctx, StartOptions{Follow: n2.upstream()}))
	streams(t, n1, n2)
	if n1.sql(t, "SELECT count(*) FROM t WHERE i = -1") != "0" {
		t.Error("the lost row is back")
	}
}

func lifeReclone(t *testing.T, n1, n2 *Instance) {
	ctx := limit(t, time.Minute)
	must(t, n1.KillWhole(ctx))
	must(t, os.WriteFile(n1.markerPath(), nil, 0o600))
	if err := n1.Start(ctx, StartOptions{Follow: n2.upstream()}); !errors.Is(err, ErrRewindBroken) {
		t.Fatalf("start with the marker of a broken rewind: %v", err)
	}
	must(t, n1.Reclone(ctx, CloneOptions{Source: n2.upstream()}))
	must(t, n1.Start(ctx, StartOptions{Follow: n2.upstream()}))
	streams(t, n1, n2)
	must(t, n1.DropDiverged(ctx))
	aside, err := filepath.Glob(n1.cfg.DataDir + ".diverged.*")
	must(t, err)
	if len(aside) != 1 {
		t.Fatalf("set aside: %v", aside)
	}
}

// lifeSwitchover stops n2 cleanly; n1 has everything, and n2 returns without a rewind.
func lifeSwitchover(t *testing.T, n1, n2 *Instance) {
	ctx := limit(t, time.Minute)
	stopped, err := n2.StopFast(ctx)
	must(t, err)
	if !stopped.Clean || !stopped.Control.CleanPrimary() || stopped.Timeline != 3 {
		t.Fatalf("stopped: %+v", stopped)
	}
	p, err := n1.Freeze(ctx)
	must(t, err)
	if p.LSN != stopped.End {
		t.Fatalf("the standby has %s, the primary ended at %s", p.LSN, stopped.End)
	}
	promoted, err := n1.Promote(ctx)
	must(t, err)
	if promoted.ForkLSN != stopped.End || promoted.Timeline != 4 {
		t.Fatalf("promoted: %+v", promoted)
	}
	must(t, n1.EnsureSlots(ctx, []replication.NodeID{"n2"}))
	up, err := n2.UpstreamFacts(ctx, "127.0.0.1", n1.cfg.Port)
	must(t, err)
	if up.Minimums.MaxConnections != 40 {
		t.Fatalf("the restart did not apply max_connections: %+v", up)
	}
	must(t, n2.Start(ctx, StartOptions{Follow: n1.upstream(), Minimums: up.Minimums}))
	must(t, n2.DropSlots(ctx))
	streams(t, n2, n1)
	d, err := n2.Inspect(ctx)
	must(t, err)
	if d.Presence != Present || d.Timeline != 4 || len(d.History) != 3 || d.PostmasterPID == 0 || !d.StandbySignal {
		t.Fatalf("data directory: %+v", d)
	}
}
