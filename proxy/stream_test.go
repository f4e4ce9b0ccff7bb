package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// streamSetup is a setup whose PostgreSQL can do logical decoding, and a role for replication.
func streamSetup(t *testing.T, change func(*proxy.Config)) *setup {
	t.Helper()
	s := newSetup(t, change)
	s.pg.exec(t, "alter system set wal_level = logical", "create role mover login replication password 'secret'",
		"grant all on database app to mover")
	s.pg.stop(t)
	s.pg.start(t)
	epoch := s.view.Load().Epoch + 1
	s.allow(epoch)
	s.view.Publish(s.writable(epoch))
	eventually(t, "the new epoch", func() bool { return s.server.Report().Epoch == epoch })
	return s
}

// tool makes the command for a replication tool of PostgreSQL, through the proxy or past it.
func (s *setup) tool(t *testing.T, direct bool, name string, args ...string) *exec.Cmd {
	t.Helper()
	if direct {
		args = append(args, "-h", s.pg.dir, "-p", strconv.Itoa(s.pg.port))
	} else {
		args = append(args, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port))
	}
	cmd := s.pg.command(name, append(args, "-U", "mover")...)
	cmd.Env = append(os.Environ(), "PGPASSWORD=secret", "HOME="+s.pg.dir)
	return cmd
}

func (s *setup) run(t *testing.T, direct bool, name string, args ...string) string {
	t.Helper()
	out, err := s.tool(t, direct, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// folder makes a directory that PostgreSQL's user may write to.
func (s *setup) folder(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(s.pg.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if s.pg.as != nil {
		if err := os.Chown(dir, int(s.pg.as.Uid), int(s.pg.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents lists the files below dir with their hashes, but what differs from one backup to the next by its nature.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		if !strings.HasPrefix(name, "pg_wal/") && name != "backup_label" && name != "backup_manifest" && name != "global/pg_control" {
			all[name] = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPhysicalReplication(t *testing.T) {
	s := streamSetup(t, nil)
	if !s.pg.has("pg_basebackup") {
		t.Skip("SKIPPED: pg_basebackup of this version is not in ", s.pg.bin)
	}
	s.pgbench(t, "-i", "-q")
	through, past := s.folder(t, "through"), s.folder(t, "past")
	s.pg.exec(t, "checkpoint")
	s.run(t, false, "pg_basebackup", "-D", through, "-X", "stream", "-c", "fast", "--no-sync")
	s.run(t, true, "pg_basebackup", "-D", past, "-X", "stream", "-c", "fast", "--no-sync")
	got, want := contents(t, through), contents(t, past)
	for name, hash := range want {
		if got[name] != hash {
			t.Errorf("%s differs in the backup through the proxy", name)
		}
	}
	if len(got) != len(want) || len(want) < 500 {
		t.Errorf("%d files through the proxy, %d past it", len(got), len(want))
	}

	wal := s.folder(t, "wal")
	s.run(t, false, "pg_receivewal", "-D", wal, "--slot=mover", "--create-slot")
	receiver := s.tool(t, false, "pg_receivewal", "-D", wal, "--slot=mover", "--no-loop", "--no-sync")
	var said bytes.Buffer
	receiver.Stderr = &said
	if err := receiver.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = receiver.Process.Kill()
			_ = receiver.Wait()
		}
	}()
	eventually(t, "the receiver", func() bool { return s.streams() == 1 })
	s.pgbench(t, "-n", "-c", "4", "-t", "100")
	s.pg.exec(t, "select pg_switch_wal()")
	var segment string
	eventually(t, "a whole segment", func() bool {
		files, _ := filepath.Glob(filepath.Join(wal, "[0-9A-F]*[0-9A-F]"))
		if len(files) > 0 {
			segment = filepath.Base(files[0])
		}
		return segment != ""
	})
	ours, err := os.ReadFile(filepath.Join(wal, segment))
	theirs, err2 := os.ReadFile(filepath.Join(s.pg.data(), "pg_wal", segment))
	if err != nil || err2 != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("segment %s differs: %v %v", segment, err, err2)
	}
	// A new epoch ends it, and says why.
	epoch := s.view.Load().Epoch + 1
	s.allow(epoch)
	s.view.Publish(s.writable(epoch))
	err = receiver.Wait()
	ended = true
	if err == nil || !strings.Contains(said.String(), "terminating replication connection because the cluster has changed") {
		t.Errorf("the receiver ended with %v:\n%s", err, said.String())
	}
	eventually(t, "its end", func() bool { return s.streams() == 0 })
}

// streams counts the replication connections among the proxy's clients.
func (s *setup) streams() (n int) {
	for _, c := range s.server.Sessions() {
		if c.Pinned == "replication" && c.Server != nil && c.User == "mover" {
			n++
		}
	}
	return n
}

func TestLogicalReplication(t *testing.T) {
	s := streamSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "create table moved (n int primary key, text text)")
	slots := []string{"through", "past"}
	for _, slot := range slots {
		s.run(t, slot == "past", "pg_recvlogical", "-d", "app", "--slot", slot, "--create-slot", "-P", "test_decoding")
	}
	mustExec(t, conn, "insert into moved select g, repeat('x', 1000) from generate_series(1, 3000) g")
	mustExec(t, conn, "update moved set text = 'y' where n % 7 = 0")
	end := query[string](t, conn, "select pg_current_wal_flush_lsn()::text")
	out := map[string]string{}
	for _, slot := range slots {
		file := filepath.Join(s.folder(t, slot), "out")
		s.run(t, slot == "past", "pg_recvlogical", "-d", "app", "--slot", slot, "--start", "-f", file, "--endpos", end, "--no-loop",
			"-o", "include-xids=0")
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[slot] = string(content)
	}
	if out["through"] != out["past"] || len(out["past"]) < 3<<20 {
		t.Errorf("%d bytes through the proxy, %d past it, equal: %v", len(out["through"]), len(out["past"]), out["through"] == out["past"])
	}
}

func TestReplicationCommandsErrorsAndCancel(t *testing.T) {
	s := streamSetup(t, func(c *proxy.Config) { c.ShutdownGrace = 10 * time.Second })
	ctx := testContext(t)
	connect := func(options string) (*pgconn.PgConn, error) {
		return pgconn.Connect(ctx, s.url("mover", "secret", "app")+" "+options)
	}
	for options, want := range map[string]string{
		"replication=maybe": "22023", "replication=true options='-c walgate.node=nobody'": "22023",
		"replication=database dbname=nowhere": "3D000", "replication=true user=app": "42501",
	} {
		if conn, err := connect(options); sqlstate(err) != want {
			t.Errorf("%s: %v, want %s", options, err, want)
			if err == nil {
				_ = conn.Close(ctx)
			}
		}
	}
	conn, err := connect("replication=database options='-c walgate.node=node1 -c statement_timeout=0'")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if got := conn.ParameterStatus("server_version"); got == "" {
		t.Error("no ParameterStatus came through")
	}
	rows, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil || len(rows) != 1 || len(rows[0].Rows) != 1 || string(rows[0].Rows[0][3]) != "app" {
		t.Fatalf("IDENTIFY_SYSTEM: %v %v", rows, err)
	}
	if _, err := conn.Exec(ctx, "NONSENSE").ReadAll(); sqlstate(err) != "42601" {
		t.Errorf("nonsense: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "select pg_sleep(60)").ReadAll()
		done <- err
	}()
	eventually(t, "the statement to run", func() bool {
		direct, err := pgx.Connect(ctx, s.pg.direct("postgres"))
		if err != nil {
			return false
		}
		defer func() { _ = direct.Close(ctx) }()
		var n int
		err = direct.QueryRow(ctx, "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'").Scan(&n)
		return err == nil && n == 1
	})
	if err := conn.CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; sqlstate(err) != "57014" {
		t.Errorf("cancelled: %v", err)
	}
	s.stop()
	if _, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll(); sqlstate(err) != "57P01" {
		t.Errorf("after the shutdown: %v", err)
	}
}

func TestReplicationFromStandby(t *testing.T) {
	s := streamSetup(t, nil)
	standby := s.pg.startStandby(t)
	view := s.writable(s.view.Load().Epoch)
	view.Version++
	view.Members = append(view.Members, replication.Member{Name: "node2", Host: standby.host, Port: standby.port})
	s.view.Publish(view)
	s.board.Publish(replication.StatusBoard{Nodes: map[replication.NodeID]replication.Status{
		"node2": {
			Node: "node2", Role: replication.RoleStandby, Reachable: true, Incarnation: 1, Timeline: 1, Streaming: true,
			AskedAt: boottime.Now(), At: boottime.Now().Add(time.Minute),
		},
	}})
	ctx := testContext(t)
	for _, options := range []string{"walgate.node=node2", "walgate.target=replica"} {
		conn, err := pgconn.Connect(ctx, s.url("mover", "secret", "app")+" replication=true options='-c "+options+"'")
		if err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		if got := conn.ParameterStatus("in_hot_standby"); got != "on" && s.pg.version(t) >= 140000 {
			t.Errorf("%s: in_hot_standby %q", options, got)
		}
		_ = conn.Close(ctx)
	}
}
