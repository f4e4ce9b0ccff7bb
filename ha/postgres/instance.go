package postgres

import (
	"context"
	"errors"
	"log/slog"

	"github.com/walgate/walgate/replication"
)

var errUnbuilt = errors.New("not built yet")

// Instance is one PostgreSQL, owned. Its methods may be called from several goroutines; those that change the instance
// exclude each other. Call Attach first and Close last.
type Instance struct {
	cfg  Config
	log  *slog.Logger
	life replication.Feed[Processes]
}

// New checks cfg and returns the instance; it starts nothing.
func New(cfg Config, log *slog.Logger) (*Instance, error) { return &Instance{cfg: cfg, log: log}, nil }

// Attach finds the guard of this instance or starts one, makes this process a child subreaper, and begins to watch
// guard and postmaster by pidfd. The other methods that need the guard attach by themselves.
func (i *Instance) Attach(ctx context.Context) (Processes, error) { return Processes{}, errUnbuilt }

// Close stops watching. Guard and postmaster go on.
func (i *Instance) Close() {}

// Processes is the news of guard and postmaster: published when either starts or ends. When the guard dies, the instance
// is killed whole first and Fenced rises.
func (i *Instance) Processes() *replication.Feed[Processes] { return &i.life }

// Arm sets the guard's deadline. It fails when the guard's present deadline has passed or belongs to a later epoch: the
// instance is then being killed.
func (i *Instance) Arm(ctx context.Context, d Deadline) error { return errUnbuilt }

// Disarm removes the deadline: only for a standby, or while the record is paused.
func (i *Instance) Disarm(ctx context.Context) error { return errUnbuilt }

// QuitGuard ends the guard. It refuses while a postmaster runs.
func (i *Instance) QuitGuard(ctx context.Context) error { return errUnbuilt }

// Inspect reads the data directory, running or not.
func (i *Instance) Inspect(ctx context.Context) (DataDir, error) { return DataDir{}, errUnbuilt }

// Initdb makes a new database cluster in an absent or empty data directory, with the role walgate in it.
func (i *Instance) Initdb(ctx context.Context) error { return errUnbuilt }

// Start boots as standby and returns when connections are accepted; when ctx ends earlier the postmaster goes on, and
// Start may be called again. A running instance is only told whom to follow. ErrDied carries the log's last words.
func (i *Instance) Start(ctx context.Context, o StartOptions) error { return errUnbuilt }

// Follow makes the standby stream from up (the zero Upstream: from nobody) without a restart.
func (i *Instance) Follow(ctx context.Context, up Upstream) error { return errUnbuilt }

// Freeze stops the WAL receiver, waits until it is gone, and returns the flushed position, which is final until Follow.
func (i *Instance) Freeze(ctx context.Context) (Position, error) { return Position{}, errUnbuilt }

// Status asks PostgreSQL for its facts within Config.ProbeTimeout.
func (i *Instance) Status(ctx context.Context) (Facts, error) { return Facts{}, errUnbuilt }

// Promote finishes replay, promotes, verifies, and reads the history file.
func (i *Instance) Promote(ctx context.Context) (Promotion, error) { return Promotion{}, errUnbuilt }

// Checkpoint runs an immediate checkpoint: call it in the background.
func (i *Instance) Checkpoint(ctx context.Context) error { return errUnbuilt }

// EnsureRoles makes walgate's roles, functions and grants on a primary.
func (i *Instance) EnsureRoles(ctx context.Context) error { return errUnbuilt }

// SetSync sets synchronous_standby_names to ANY quorum (names), or clears it when there are no names, and returns when
// it has taken effect in fresh sessions, in the checkpointer and in the senders.
func (i *Instance) SetSync(ctx context.Context, names []replication.NodeID, quorum int) error {
	return errUnbuilt
}

// SetParameters replaces the user's parameters and reloads; it returns those that need a restart.
func (i *Instance) SetParameters(ctx context.Context, p map[string]string) (restart []string, err error) {
	return nil, errUnbuilt
}

// EnsureSlots makes a physical slot for each of want and drops the other slots that EnsureSlots made.
func (i *Instance) EnsureSlots(ctx context.Context, want []replication.NodeID) error {
	return errUnbuilt
}

// DropSlots drops all slots that EnsureSlots made: a demoted node's would pin WAL for ever.
func (i *Instance) DropSlots(ctx context.Context) error { return errUnbuilt }

// StopFast shuts down (SIGINT), ends hanging walsenders after Config.StopGrace, and reads what is left on the disk.
// ErrStopIncomplete when ctx ends first.
func (i *Instance) StopFast(ctx context.Context) (Stopped, error) { return Stopped{}, errUnbuilt }

// KillWhole kills every process of the instance with SIGKILL and returns nil only on proof that none is left.
func (i *Instance) KillWhole(ctx context.Context) error { return errUnbuilt }

// EndOfWAL returns the end of the valid WAL of the timeline on the local disk. From is a position at or before it
// (the last sampled one); unknown: the last checkpoint.
func (i *Instance) EndOfWAL(ctx context.Context, tl replication.Timeline, from replication.LSN) (replication.LSN, error) {
	return 0, errUnbuilt
}

// Clone copies the source into an absent or empty data directory.
func (i *Instance) Clone(ctx context.Context, o CloneOptions) error { return errUnbuilt }

// Rewind copies the WAL past the fork aside, runs pg_rewind against a primary, and returns the report of the loss.
func (i *Instance) Rewind(ctx context.Context, o RewindOptions) (Loss, error) {
	return Loss{}, errUnbuilt
}

// Reclone renames the data directory to <data>.diverged.<timeline>.<time> and clones anew.
func (i *Instance) Reclone(ctx context.Context, o CloneOptions) error { return errUnbuilt }

// DropDiverged deletes all renamed data directories but the newest: call it once the new clone streams.
func (i *Instance) DropDiverged(ctx context.Context) error { return errUnbuilt }

// UpstreamFacts asks another server about itself, over a replication connection.
func (i *Instance) UpstreamFacts(ctx context.Context, host string, port int) (UpstreamFacts, error) {
	return UpstreamFacts{}, errUnbuilt
}
