package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication"
)

// Instance is one PostgreSQL, owned. Its methods may be called from several goroutines; those that change the instance
// exclude each other, but KillWhole, Arm, Disarm, Status and Inspect wait for none. Call Attach first and Close last.
type Instance struct {
	cfg    Config
	log    *slog.Logger
	life   replication.Feed[Processes]
	lifeMu sync.Mutex // makes changes of life whole

	moving    sync.Mutex // held by a move that changes the instance
	attaching chan struct{}

	closing chan struct{} // closed by Close
	closed  sync.Once
	wg      sync.WaitGroup

	probing chan struct{} // holds one token: who has it may use probe
	probe   *pgconn.PgConn

	mu         sync.Mutex
	bins       binaries
	client     *guard.Client
	parameters map[string]string
}

// New checks cfg and returns the instance; it starts nothing.
func New(cfg Config, log *slog.Logger) (*Instance, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Instance{
		cfg: cfg, log: log, parameters: cfg.Parameters,
		attaching: make(chan struct{}, 1), closing: make(chan struct{}), probing: make(chan struct{}, 1),
	}, nil
}

// longestSocket is the room for a path in sockaddr_un (unix(7)).
const longestSocket = 107

func (c Config) check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for name, path := range map[string]string{
		"data directory": c.DataDir, "state directory": c.StateDir, "run directory": c.RunDir, "log file": c.LogFile,
	} {
		need(filepath.IsAbs(path), "the %s %q is no absolute path", name, path)
		need(!strings.ContainsAny(path, "\n\x00"), "the %s %q has control characters", name, path)
	}
	for name, path := range map[string]string{"state": c.StateDir, "run": c.RunDir} {
		rel, err := filepath.Rel(c.DataDir, path)
		need(err != nil || rel == ".." || strings.HasPrefix(rel, "../"), "the %s directory lies in the data directory", name)
	}
	need(len(c.RunDir)+len("/.s.PGSQL.65535.lock") <= longestSocket,
		"the run directory %q is too long for a socket: %d bytes at most", c.RunDir, longestSocket-len("/.s.PGSQL.65535.lock"))
	need(!strings.Contains(c.RunDir, ","), "the run directory %q has a comma", c.RunDir)
	need(c.Cluster != "" && c.Node != "", "cluster and node need names")
	need(c.Port > 0 && c.Port < 1<<16, "port %d is out of range", c.Port)
	need(len(c.Secret.key) >= 16, "the secret has %d bytes, 16 at least", len(c.Secret.key))
	need(c.Secret.cluster == c.Cluster, "the secret is of cluster %q", c.Secret.cluster)
	need(c.SuperuserPassword != "" && !strings.ContainsAny(c.SuperuserPassword, "\r\n"),
		"the superuser needs a password of one line")
	need(c.Members > 0, "the number of members is %d", c.Members)
	need(c.ProbeTimeout > 0 && c.StopGrace > 0 && c.GuardLinger > 0, "probe timeout, stop grace and guard linger must be positive")
	need(c.MaxSlotWAL > 0 && c.LogBytes > 0, "max_slot_wal_keep_size and the size of the log must be positive")
	errs = append(errs, checkParameters(c.Parameters))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configuration of PostgreSQL: %w", err)
	}
	return nil
}

// exclusive waits for the move under way, and returns how to end one's own.
func (i *Instance) exclusive() func() {
	i.moving.Lock()
	return i.moving.Unlock
}

// Close stops watching and closes connections. Guard and postmaster go on.
func (i *Instance) Close() {
	i.closed.Do(func() {
		close(i.closing)
		i.mu.Lock()
		client := i.client
		i.client = nil
		i.mu.Unlock()
		if client != nil {
			client.Close()
		}
		i.wg.Wait()
		i.probing <- struct{}{}
		i.dropProbe()
		<-i.probing
	})
}
