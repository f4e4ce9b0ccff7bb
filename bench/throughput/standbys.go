package throughput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
)

// countingLibrary counts statements on every node by itself; only where there are standbys, so that a measurement with one
// node is without it.
const countingLibrary = "pg_stat_statements"

// countedRead is how the reads of a mix begin: nothing else on a server does.
const countedRead = "SELECT abalance FROM pgbench_accounts"

// checkLibrary tells if PostgreSQL would not start with the library.
func checkLibrary(ctx context.Context) error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/lib/" + countingLibrary + ".so")
	if err == nil && len(found) > 0 {
		return nil
	}
	path, err := program("pg_config")
	if err != nil {
		return fmt.Errorf("find PostgreSQL's %s: %w", countingLibrary, err)
	}
	out, err := exec.CommandContext(ctx, path, "--pkglibdir").Output()
	if err == nil {
		_, err = os.Stat(filepath.Join(strings.TrimSpace(string(out)), countingLibrary+".so"))
	}
	if err != nil {
		return fmt.Errorf("find PostgreSQL's %s, which counts reads: %w", countingLibrary, err)
	}
	return nil
}

// addStandbys starts the other nodes, and returns when they stream and have all that there is.
func (g *ground) addStandbys(ctx context.Context) error {
	if err := g.askNode(ctx, 1, "create extension "+countingLibrary, nil); err != nil {
		return fmt.Errorf("count reads: %w", err)
	}
	for number := 2; number <= g.cfg.Nodes; number++ {
		if err := g.startNode(number); err != nil {
			return err
		}
	}
	ready := func(ctx context.Context) error {
		var streaming int
		const query = "select count(*) from pg_stat_replication where state = 'streaming' and replay_lsn >= pg_current_wal_flush_lsn()"
		if err := g.askNode(ctx, 1, query, &streaming); err != nil {
			return err
		}
		if want := g.cfg.Nodes - 1; streaming < want {
			return fmt.Errorf("%d of %d standbys stream and have everything", streaming, want)
		}
		return nil
	}
	for _, node := range g.nodes {
		if err := until(ctx, startLimit, node, ready); err != nil {
			return fmt.Errorf("make standbys: %w", err)
		}
	}
	return nil
}

// askNode runs one statement on a node, as superuser, past every proxy.
func (g *ground) askNode(ctx context.Context, number int, query string, into any) (err error) {
	address := g.address((number-1)*portsOfNode + portPostgres)
	conn, err := pgx.Connect(ctx, g.url(address, "postgres", benchDatabase))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if into == nil {
		_, err = conn.Exec(ctx, query)
		return err
	}
	return conn.QueryRow(ctx, query).Scan(into)
}

// reads are those of a mix since the beginning, by the count of the servers where they ran.
type reads struct{ all, standby int64 }

// reads asks every node; there is no count where there are no standbys.
func (g *ground) reads(ctx context.Context) (r reads, err error) {
	if g.cfg.Nodes == 1 {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for number := 1; number <= g.cfg.Nodes; number++ {
		var calls int64
		const query = "select coalesce(sum(calls), 0)::bigint from " + countingLibrary + " where query like '" + countedRead + "%'"
		if err := g.askNode(ctx, number, query, &calls); err != nil {
			return r, fmt.Errorf("count reads on %s: %w", nodeName(number), err)
		}
		r.all += calls
		if number > 1 {
			r.standby += calls
		}
	}
	return r, nil
}
