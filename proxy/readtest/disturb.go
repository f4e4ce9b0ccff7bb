package readtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Disturber hinders the replay of standbys, at random, and undoes it.
type Disturber struct {
	// Direct are the connection strings of the standbys, for a superuser, past every proxy. It is asked before each
	// disturbance.
	Direct func(ctx context.Context) ([]string, error)
	Seed   uint64
	Done   map[string]int // how often each disturbance was carried out
}

// disturbance does something to a standby and returns what undoes it.
type disturbance struct {
	name string
	do   func(ctx context.Context, conn *pgx.Conn) (undo func(ctx context.Context) error, err error)
}

func statements(do, undo string) func(ctx context.Context, conn *pgx.Conn) (func(ctx context.Context) error, error) {
	return func(ctx context.Context, conn *pgx.Conn) (func(ctx context.Context) error, error) {
		if err := execAll(ctx, conn, do); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return execAll(ctx, conn, undo) }, nil
	}
}

// execAll runs statements that may stand in no transaction, one after the other.
func execAll(ctx context.Context, conn *pgx.Conn, sql string) error {
	for len(sql) > 0 {
		one := sql
		for i := range sql {
			if sql[i] == ';' {
				one, sql = sql[:i], sql[i+1:]
				break
			}
		}
		if len(one) == len(sql) {
			sql = ""
		}
		if _, err := conn.Exec(ctx, one, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

var disturbances = []disturbance{
	{"replay paused", statements("select pg_wal_replay_pause()", "select pg_wal_replay_resume()")},
	{"replay delayed", statements("alter system set recovery_min_apply_delay = '400ms';select pg_reload_conf()",
		"alter system reset recovery_min_apply_delay;select pg_reload_conf()")},
	{"WAL receiver ended", statements("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walreceiver'", "")},
	{"startup process stopped", stopStartup},
	{"backend crashed", crash},
}

// stopStartup freezes the process that replays.
func stopStartup(ctx context.Context, conn *pgx.Conn) (func(ctx context.Context) error, error) {
	var pid int
	if err := conn.QueryRow(ctx, "select pid from pg_stat_activity where backend_type = 'startup'").Scan(&pid); err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	return func(context.Context) error { return syscall.Kill(pid, syscall.SIGCONT) }, nil
}

// crash kills the backend of its own connection: the postmaster ends all processes and begins recovery again, from the last
// restartpoint, so that replay goes back; the time of its start stays the same.
func crash(_ context.Context, conn *pgx.Conn) (func(ctx context.Context) error, error) {
	pid := int(conn.PgConn().PID())
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return nil, err
	}
	return func(context.Context) error { return nil }, nil
}

// Run disturbs until ctx ends. Every disturbance is undone before it returns.
func (d *Disturber) Run(ctx context.Context) error {
	random := rand.New(rand.NewPCG(d.Seed, 1))
	d.Done = map[string]int{}
	for {
		if !wait(ctx, time.Duration(random.IntN(300))*time.Millisecond) {
			return nil
		}
		standbys, err := d.Direct(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(standbys) == 0 {
			continue
		}
		what := disturbances[random.IntN(len(disturbances))]
		last := time.Duration(20+random.IntN(700)) * time.Millisecond
		if err := d.one(ctx, standbys[random.IntN(len(standbys))], what, last); err != nil {
			return fmt.Errorf("%s: %w", what.name, err)
		}
	}
}

// one carries out a disturbance. A standby that can't be reached now is left alone.
func (d *Disturber) one(ctx context.Context, direct string, what disturbance, last time.Duration) error {
	// What has begun is undone, whatever becomes of ctx.
	undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), opLimit)
	defer cancel()
	conn, err := pgx.Connect(undoing, direct)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(undoing) }() // it may be gone: that was the disturbance
	undo, err := what.do(undoing, conn)
	if err != nil {
		return nil // promoted or ended meanwhile
	}
	d.Done[what.name]++
	wait(ctx, last)
	if err := undo(undoing); err != nil && !conn.IsClosed() {
		return err
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
