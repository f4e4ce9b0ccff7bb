package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// conclude waits until the cluster is whole, compares every journal with the table, and fills the run.
func (b *bed) conclude(ctx context.Context) error {
	attempts, connects, broken := b.through.take()
	b.run.Injected = b.injected
	b.measure(attempts)
	b.run.Errors, b.run.ConnectErrors, b.run.WritersBroken = errorsByCode(attempts), connects, broken
	b.concludePgbench()

	c, err := b.api.waitHealthy(ctx, len(b.demo.Nodes), b.cfg.Limit)
	b.run.HealedMS = since(b.injected, b.observer.seen().healed)
	if b.run.HealedMS < 0 {
		b.run.HealedMS = since(b.injected, time.Now())
	}
	if err != nil {
		b.run.HealedMS = -1
		err = fmt.Errorf("wait until every member works again: %w", err)
	}
	b.run.To, b.run.LastFailover = c.primary(), c.LastFailover
	node, nodeErr := b.demo.Node(c.primary())
	if nodeErr != nil {
		return errors.Join(err, nodeErr)
	}
	rows, rowsErr := b.rows(ctx, node)
	if rowsErr != nil {
		return errors.Join(err, fmt.Errorf("read rows of %s: %w", node.Name, rowsErr))
	}
	b.judge(attempts, rows)
	total := 0
	for _, n := range rows {
		total += n
	}
	for _, other := range b.demo.Nodes {
		if other.Name == node.Name {
			continue
		}
		if countErr := b.sameCount(ctx, other, total); countErr != nil {
			b.run.Diverged = append(b.run.Diverged, other.Name+": "+countErr.Error())
		}
	}
	return err
}

// measure fills the times and the series.
func (b *bed) measure(attempts []attempt) {
	at := acks(attempts)
	gap := longestGap(at, b.injected, b.ended)
	b.run.OutageMS = outageMS(gap)
	b.run.FirstCommitMS = since(b.injected, gap.to)
	b.run.WaitedMS = ms(longestStatement(attempts, b.injected))
	seen := b.observer.seen()
	b.run.ClaimMS = since(b.injected, seen.claimed)
	b.run.PromoteMS = since(b.injected, seen.promoted)
	b.run.OpenMS = since(b.injected, seen.opened)
	until := gap.to
	if until.IsZero() {
		until = b.injected.Add(b.cfg.load())
	}
	b.run.Steps = readSteps(b.cfg.Dir, b.injected, until.Add(time.Second))
	b.run.DetectMS = firstStep(b.run.Steps, "decision", "")
	b.run.VoteMS = firstStep(b.run.Steps, "store move", "vote")
	if b.cfg.Fault.freezes() {
		b.run.ResumedMS = since(b.injected, b.returned)
	}
	b.run.StartMS = -since(b.began, b.injected)
	b.run.WriterSeries = b.series(at)
}

// series counts events per step, from the start of the load to its end.
func (b *bed) series(events []time.Time) []int {
	step := time.Duration(b.run.StepMS) * time.Millisecond
	length := max(b.cfg.load(), b.through.lastAck().Sub(b.began))
	return histogram(events, b.began, step, int(length/step)+1)
}

func (b *bed) concludePgbench() {
	if b.pgbench == nil {
		return
	}
	commits, err := b.pgbench.commits()
	b.run.Pgbench = Pgbench{
		Clients: b.cfg.PgbenchClients, Commits: len(commits), OutageMS: outageMS(longestGap(commits, b.injected, b.ended)),
		Aborted: b.pgbench.aborted, Starts: b.pgbench.starts, LastError: b.pgbench.lastErr,
	}
	if err != nil {
		b.run.Pgbench.LastError = err.Error()
	}
	b.run.PgbenchSeries = b.series(commits)
}

// maxListed bounds the lists of rows in a report.
const maxListed = 100

func (b *bed) judge(attempts []attempt, rows map[int64]int) {
	v := judge(attempts, rows)
	b.run.Acknowledged, b.run.InDoubt, b.run.InDoubtThere = v.acknowledged, v.inDoubt, v.inDoubtThere
	b.run.MissingCount, b.run.DuplicateCount = len(v.missing), len(v.duplicates)
	b.run.Missing = v.missing[:min(len(v.missing), maxListed)]
	b.run.Duplicates = v.duplicates[:min(len(v.duplicates), maxListed)]
	b.run.Contradicted = v.contradicted[:min(len(v.contradicted), maxListed)]
	for i, node := range b.demo.Nodes {
		direct, _, _ := b.direct[i].take()
		v := judge(direct, rows)
		if node.Name == b.node.Name && b.cfg.Fault != FaultSwitchover {
			late := lateAcks(direct, b.struck)
			b.run.DirectLate = len(late)
		}
		b.run.DirectMissing += len(v.missing)
		b.run.DuplicateCount += len(v.duplicates)
	}
}

// rows counts the rows of each key on the node, which must be the primary.
func (b *bed) rows(ctx context.Context, node Node) (map[int64]int, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Limit)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.demo.url(node.Postgres, 5*time.Second))
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, err
	}
	if standby {
		return nil, errors.New("it is in recovery although the cluster calls it primary")
	}
	found, err := conn.Query(ctx, selectRows)
	if err != nil {
		return nil, err
	}
	rows := map[int64]int{}
	var k int64
	_, err = pgx.ForEachRow(found, []any{&k}, func() error {
		rows[k]++
		return nil
	})
	return rows, err
}

// replayLimit is how long a standby may take to show the rows of the primary when no more are written.
const replayLimit = 20 * time.Second

// sameCount returns nil once the node has as many rows as the primary.
func (b *bed) sameCount(ctx context.Context, node Node, want int) error {
	ctx, cancel := context.WithTimeout(ctx, replayLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, b.demo.url(node.Postgres, 5*time.Second))
	if err != nil {
		return err
	}
	defer closeConn(conn)
	for {
		var got int
		if err := conn.QueryRow(ctx, countRows).Scan(&got); err != nil {
			return err
		}
		if got == want {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%d rows, the primary has %d", got, want)
		}
	}
}
