package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pgbench runs the program again and again: its clients give up at the first error they may not retry.
type pgbench struct {
	cfg  Config
	demo Demo
	dir  string // for its transaction logs

	starts  int
	aborted int // clients that gave up
	lastErr string
}

// command returns one invocation against the sidecar.
func (p *pgbench) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(p.demo.Sidecar.Addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, p.cfg.Pgbench, append(args, p.demo.Database)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGUSER="+p.demo.User, "PGPASSWORD="+p.demo.Password,
		"PGSSLMODE=disable", "PGAPPNAME=pgbench", "PGCONNECT_TIMEOUT=40")
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// initialize makes tables of scale 1.
func (p *pgbench) initialize(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd, err := p.command(ctx, "-i", "-q", "-s", "1")
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run pgbench -i: %w: %.500s", err, out)
	}
	return nil
}

// run keeps pgbench running for the duration, and ends some seconds after soft at the latest.
func (p *pgbench) run(soft, hard context.Context, d time.Duration) {
	deadline := time.Now().Add(d)
	for soft.Err() == nil {
		left := time.Until(deadline).Round(time.Second)
		if left < time.Second {
			return
		}
		p.once(soft, hard, left)
		_ = pause(soft, 200*time.Millisecond) // it may fail at once
	}
}

func (p *pgbench) once(soft, hard context.Context, d time.Duration) {
	cmd, err := p.command(hard, "-n", "-M", "prepared", "-c", strconv.Itoa(p.cfg.PgbenchClients), "-j", "2",
		"-T", strconv.Itoa(int(d/time.Second)), "--max-tries=10", "-l", "--log-prefix=tx"+strconv.Itoa(p.starts))
	if err != nil {
		p.lastErr = err.Error()
		return
	}
	p.starts++
	// Its logs are written when it ends by itself, which it does at an interrupt not.
	var errs bytes.Buffer
	cmd.Stderr = &limited{to: &errs, left: 1 << 20}
	err = cmd.Run()
	p.aborted += strings.Count(errs.String(), "aborted")
	if err != nil && soft.Err() == nil {
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		p.lastErr = err.Error() + ": " + lines[0]
	}
}

// limited drops what comes after left bytes.
type limited struct {
	to   *bytes.Buffer
	left int
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	keep := b[:min(len(b), l.left)]
	l.left -= len(keep)
	_, _ = l.to.Write(keep)
	return len(b), nil
}

// commits reads when transactions were acknowledged, from the logs of all threads and invocations.
func (p *pgbench) commits() ([]time.Time, error) {
	files, err := filepath.Glob(filepath.Join(p.dir, "tx*"))
	if err != nil {
		return nil, err
	}
	var all []time.Time
	var errs []error
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, parseCommits(content)...)
	}
	return all, errors.Join(errs...)
}

// parseCommits reads a per-transaction log (PostgreSQL documentation, pgbench, "Per-Transaction Logging"): client,
// transaction, latency or a word for a failure, script, seconds, microseconds.
func parseCommits(content []byte) []time.Time {
	var commits []time.Time
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		_, err := strconv.ParseInt(fields[2], 10, 64)
		seconds, errS := strconv.ParseInt(fields[4], 10, 64)
		micros, errM := strconv.ParseInt(fields[5], 10, 64)
		if err == nil && errS == nil && errM == nil {
			commits = append(commits, time.Unix(seconds, micros*1000))
		}
	}
	return commits
}
