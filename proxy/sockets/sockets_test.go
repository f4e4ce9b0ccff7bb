package sockets_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walgate/walgate/proxy/sockets"
)

func listen(t *testing.T, set *sockets.Set, spec sockets.Spec) net.Listener {
	t.Helper()
	l, err := set.Listen(context.Background(), spec)
	if err != nil {
		t.Fatalf("listen on %v: %v", spec, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	spec := sockets.Spec{Network: "unix", Address: dir + ":6432", Mode: 0o770}
	path := filepath.Join(dir, ".s.PGSQL.6432")
	set := &sockets.Set{}
	first := listen(t, set, spec)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o770 || info.Mode().Type() != fs.ModeSocket {
		t.Fatalf("%v, %v", info, err)
	}
	if _, err := set.Listen(context.Background(), spec); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("a live process's socket was taken: %v", err)
	}
	set.Keep()
	_ = first.Close() // as if its process had been killed
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	second := listen(t, set, spec)
	_ = second.Close()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the socket's name is left: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := set.Listen(context.Background(), spec); err == nil {
		t.Fatal("listens on a file")
	}
	if content, _ := os.ReadFile(path); string(content) != "precious" {
		t.Fatal("the file was removed")
	}
	if _, err := set.Listen(context.Background(), sockets.Spec{Network: "unix", Address: dir + "/other", Group: "no such group"}); err == nil {
		t.Fatal("an unknown group was taken")
	}
	if _, err := os.Stat(dir + "/other"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a socket that was refused is left")
	}
}

func TestSharedPortAndBacklog(t *testing.T) {
	set := &sockets.Set{}
	l := listen(t, set, sockets.Spec{Network: "tcp", Address: "127.0.0.1:0", ReusePort: true, Backlog: 7})
	again := sockets.Spec{Network: "tcp", Address: l.Addr().String(), ReusePort: true}
	listen(t, set, again)
	again.ReusePort = false
	if _, err := set.Listen(context.Background(), again); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("without the option: %v", err)
	}
}

func TestGivenSockets(t *testing.T) {
	opened := listen(t, &sockets.Set{}, sockets.Spec{Network: "tcp", Address: "127.0.0.1:0"})
	set := &sockets.Set{}
	set.Give(sockets.Given{Listener: opened})
	_, port, _ := net.SplitHostPort(opened.Addr().String())
	if set.Has(sockets.Spec{Network: "tcp", Address: "127.0.0.2:" + port}) || set.Has(sockets.Spec{Network: "unix", Address: "/x:" + port}) {
		t.Error("another address is taken for the same")
	}
	if got := listen(t, set, sockets.Spec{Network: "tcp", Address: "127.0.0.1:" + port}); got != opened {
		t.Error("the socket that was given was not taken")
	}
	if set.Has(sockets.Spec{Network: "tcp", Address: "127.0.0.1:" + port}) {
		t.Error("it can be taken twice")
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := sockets.Notify(sockets.Reloading()...); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 200)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := conn.Read(buf)
	if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Fatalf("%q %v", got, err)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := sockets.Notify("READY=1"); err != nil {
		t.Fatal(err)
	}
}

// TestFromSystemd plays systemd: a child finds its socket at descriptor 3.
func TestFromSystemd(t *testing.T) {
	if want := os.Getenv("WALGATE_TEST_SYSTEMD"); want != "" {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		got, err := sockets.FromSystemd()
		if err != nil || len(got) != 1 || got[0].Listener.Addr().String() != want || os.Getenv("LISTEN_FDS") != "" {
			t.Fatalf("%v %v, want %s", got, err, want)
		}
		_ = os.Setenv("LISTEN_PID", "1")
		_ = os.Setenv("LISTEN_FDS", "1")
		if got, err := sockets.FromSystemd(); err != nil || got != nil {
			t.Fatalf("another process's sockets were taken: %v %v", got, err)
		}
		return
	}
	l := listen(t, &sockets.Set{}, sockets.Spec{Network: "tcp", Address: "127.0.0.1:0"})
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFromSystemd$")
	cmd.Env = append(os.Environ(), "WALGATE_TEST_SYSTEMD="+l.Addr().String(), "LISTEN_FDS=1", "LISTEN_FDNAMES=proxy")
	cmd.ExtraFiles = []*os.File{file}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
