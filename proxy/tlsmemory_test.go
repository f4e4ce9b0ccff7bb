package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy/secure"
)

const crowdVariable = "WALGATE_TEST_CROWD"

// TestTLSCrowd is no test: TestTLSMemory runs it as a process of its own, which opens clients and keeps them until its
// standard input ends.
func TestTLSCrowd(t *testing.T) {
	port, clients, ok := strings.Cut(os.Getenv(crowdVariable), "/")
	if !ok {
		t.Skip("the other half of TestTLSMemory")
	}
	n, err := strconv.Atoi(clients)
	if err != nil {
		t.Fatal(err)
	}
	var all []*pgx.Conn
	for range n {
		conn, err := pgx.Connect(testContext(t), "host=127.0.0.1 user=app password=secret dbname=app sslmode=require port="+port)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	fmt.Println("CROWD IS THERE")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(all)
}

// TestTLSMemory bounds what an idle client over TLS costs: memory in bytes, and one goroutine.
func TestTLSMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs more memory than what is measured")
	}
	s := newTLSSetup(t, secure.Require, nil)
	const warm, clients, limit = 50, 1000, 28 << 10
	first := s.crowd(t, warm)
	before, goroutines := residentBytes(t), runtime.NumGoroutine()
	second := s.crowd(t, clients-warm)
	after := residentBytes(t)
	each := (after - before) / (clients - warm)
	perClient := float64(runtime.NumGoroutine()-goroutines) / (clients - warm)
	t.Logf("%d bytes of resident memory and %.2f goroutines for each idle client over TLS", each, perClient)
	if each > limit {
		t.Errorf("%d bytes for each idle client, limit %d", each, limit)
	}
	if perClient < 0.95 || perClient > 1.05 {
		t.Errorf("%.2f goroutines for each idle client", perClient)
	}
	second()
	first()
}

// crowd opens clients in another process; leave ends it.
func (s *tlsSetup) crowd(t *testing.T, clients int) (leave func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTLSCrowd$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d/%d", crowdVariable, s.port, clients))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	leave = func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(leave)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "CROWD IS THERE" {
			return leave
		}
	}
	t.Fatal("the crowd did not come")
	return nil
}

// residentBytes is what the kernel counts for this process after a collection that the crowd's logins owe.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	runtime.GC()
	content, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(string(bytes.Fields(content)[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
