package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walgate/walgate/proxy/sockets"
)

// process plays one process of a proxy. It implements Host.
type process struct {
	t       *testing.T
	self    Identity
	mesh    *Mesh
	path    string
	given   []sockets.Given
	why     atomic.Pointer[string] // refuses offers
	cancels chan string
	events  chan string
	ended   chan error // of Holder.Run
	stop    context.CancelFunc
}

var quiet = slog.New(slog.DiscardHandler)

// testLimit bounds what a test waits for.
const testLimit = 20 * time.Second

func newProcess(t *testing.T, path string, pid int) *process {
	p := &process{
		t: t, self: Identity{Cluster: "demo", Version: "1.2", PID: pid}, path: path, cancels: make(chan string, 10),
		events: make(chan string, 10), ended: make(chan error, 1),
	}
	p.mesh = NewMesh(func(id uint32, secret []byte) { p.cancels <- fmt.Sprintf("%d %s", id, secret) }, quiet)
	t.Cleanup(p.mesh.Close)
	return p
}

func (p *process) Offer() ([]sockets.Given, error) {
	if why := p.why.Load(); why != nil {
		return nil, errors.New(*why)
	}
	return p.given, nil
}

func (p *process) Prepare(context.Context) { p.events <- "prepare" }
func (p *process) Withdraw()               { p.events <- "withdraw" }
func (p *process) Yield()                  { p.events <- "yield" }

// hold waits for a successor.
func (p *process) hold() {
	p.t.Helper()
	h, err := Listen(p.t.Context(), p.path, p.self, p, p.mesh, quiet)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	var running sync.WaitGroup
	running.Go(func() { p.ended <- h.Run(ctx) })
	p.t.Cleanup(func() {
		stop()
		running.Wait()
	})
}

// dial asks for the sockets.
func (p *process) dial() (*Successor, error) {
	s, given, err := Dial(p.t.Context(), p.path, p.self, p.mesh, quiet)
	p.given = given
	for _, g := range given {
		p.t.Cleanup(func() { _ = g.Listener.Close() })
	}
	return s, err
}

// take takes over.
func (p *process) take() *Successor {
	p.t.Helper()
	s, err := p.dial()
	if err == nil {
		err = errors.Join(s.Prepare(p.t.Context()), s.Serve(p.t.Context()))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func want[T comparable](t *testing.T, from <-chan T, value T) {
	t.Helper()
	select {
	case got := <-from:
		if got != value {
			t.Fatalf("got %v, want %v", got, value)
		}
	case <-time.After(testLimit):
		t.Fatalf("no %v", value)
	}
}

// place is a directory whose name is short enough for a socket.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open(t *testing.T, specs ...sockets.Spec) []sockets.Given {
	t.Helper()
	set := &sockets.Set{}
	for _, spec := range specs {
		l, err := set.Listen(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	set.Keep()
	return set.Taken()
}

// TestTakeover passes a TCP and a unix socket on, and sees that connections which come meanwhile reach the new process.
func TestTakeover(t *testing.T) {
	dir := place(t)
	path := filepath.Join(dir, "takeover.sock")
	old, fresh := newProcess(t, path, 1), newProcess(t, path, 2)
	old.given = open(t, sockets.Spec{Network: "tcp", Address: "127.0.0.1:0"}, sockets.Spec{Network: "unix", Address: dir + ":1"})
	old.given = append(old.given, sockets.Given{Listener: open(t, sockets.Spec{Network: "unix", Address: dir + ":2"})[0].Listener})
	if _, err := fresh.dial(); !errors.Is(err, ErrNobody) {
		t.Fatalf("nobody is there: %v", err)
	}
	old.hold()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v, want mode 0600", info, err)
	}
	if pid, err := Holding(path); err != nil || pid != os.Getpid() {
		t.Fatalf("holder %d, %v", pid, err)
	}
	s := fresh.take()
	want(t, old.events, "prepare")
	want(t, old.events, "yield")
	want(t, old.ended, nil)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the path is not free for the new process: %v", err)
	}
	var ours []bool
	for i, g := range fresh.given {
		ours = append(ours, g.Ours)
		addr := old.given[i].Listener.Addr()
		if err := old.given[i].Listener.Close(); err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial(addr.Network(), addr.String())
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if conn, err := g.Listener.Accept(); err != nil {
			t.Errorf("%s: %v", addr, err)
		} else {
			_ = conn.Close()
		}
		_ = client.Close()
	}
	if fmt.Sprint(ours) != "[true true false]" {
		t.Errorf("ours: %v", ours)
	}
	select {
	case <-s.Gone():
		t.Error("the old process has not ended")
	default:
	}
	old.mesh.Close()
	select {
	case <-s.Gone():
	case <-time.After(testLimit):
		t.Error("the old process has ended")
	}
}

// TestCancelsReachEveryProcess has three processes follow each other, the middle one end first, and CancelRequests find
// their way all the same.
func TestCancelsReachEveryProcess(t *testing.T) {
	path := filepath.Join(place(t), "takeover.sock")
	first, second, third := newProcess(t, path, 1), newProcess(t, path, 2), newProcess(t, path, 3)
	first.hold()
	second.take()
	want(t, first.ended, nil)
	second.hold()
	third.take()
	want(t, second.ended, nil)
	third.mesh.Cancel(7, []byte("abcd"))
	want(t, first.cancels, "7 abcd")
	want(t, second.cancels, "7 abcd")
	second.mesh.Close()
	third.mesh.Cancel(8, []byte("abcd"))
	want(t, first.cancels, "8 abcd")
	first.mesh.Cancel(9, []byte("abcd")) // it had accepted the connection before it yielded
	want(t, third.cancels, "9 abcd")
	select {
	case got := <-third.cancels:
		t.Errorf("a request was passed on twice: %s", got)
	default:
	}
}

// TestNewProcessDies sees that the old one goes on, at each step, and that the next one can take over.
func TestNewProcessDies(t *testing.T) {
	path := filepath.Join(place(t), "takeover.sock")
	old := newProcess(t, path, 1)
	old.hold()
	offered := newProcess(t, path, 2)
	if _, err := offered.dial(); err != nil {
		t.Fatal(err)
	}
	offered.mesh.Close()
	ready := newProcess(t, path, 3)
	s, err := ready.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, old.events, "prepare")
	ready.mesh.Close()
	want(t, old.events, "withdraw")
	newProcess(t, path, 4).take()
	want(t, old.events, "prepare")
	want(t, old.events, "yield")
}

// TestOldProcessDies sees that the new one goes on with the sockets that it has.
func TestOldProcessDies(t *testing.T) {
	path := filepath.Join(place(t), "takeover.sock")
	old, fresh := newProcess(t, path, 1), newProcess(t, path, 2)
	old.given = open(t, sockets.Spec{Network: "tcp", Address: "127.0.0.1:0"})
	old.hold()
	s, err := fresh.dial()
	if err != nil {
		t.Fatal(err)
	}
	old.stop()
	want(t, old.ended, context.Canceled)
	old.mesh.Close()
	if err := errors.Join(s.Prepare(t.Context()), s.Serve(t.Context())); err != nil || len(fresh.given) != 1 {
		t.Fatalf("%v, %d sockets", err, len(fresh.given))
	}
	fresh.hold()
}

func TestRefusals(t *testing.T) {
	path := filepath.Join(place(t), "takeover.sock")
	old, fresh := newProcess(t, path, 1), newProcess(t, path, 2)
	old.hold()
	refused := func(what, part string) {
		t.Helper()
		_, err := fresh.dial()
		var told *RefusedError
		if !errors.As(err, &told) || !strings.Contains(told.Why, part) {
			t.Errorf("%s: %v, want a refusal with %q", what, err, part)
		}
	}
	why := "the proxy is paused"
	old.why.Store(&why)
	refused("paused", why)
	old.why.Store(nil)
	fresh.self.Cluster = "other"
	refused("another cluster", `of cluster "other"`)
	fresh.self.Cluster = "demo"

	for _, c := range []struct {
		name, want string
		say        message
	}{
		{"another protocol", "version 9.9 speaks protocol 2", message{Kind: hello, Protocol: protocol + 1, From: Identity{Cluster: "demo", Version: "9.9"}}},
		{"no hello", `"serving" came instead`, message{Kind: serving}},
	} {
		raw, err := net.DialUnix("unixpacket", nil, local(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := (conn{raw}).send(c.say); err != nil {
			t.Fatal(err)
		}
		m, _, err := conn{raw}.receive()
		if err != nil || m.Kind != refusal || !strings.Contains(m.Why, c.want) {
			t.Errorf("%s: %+v %v, want a refusal with %q", c.name, m, err, c.want)
		}
		if _, _, err := (conn{raw}).receive(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays: %v", c.name, err)
		}
		_ = raw.Close()
	}
	if _, err := Listen(t.Context(), path, fresh.self, fresh, fresh.mesh, quiet); err == nil {
		t.Error("a live process's path was taken")
	}
	fresh.take() // none of this has done any harm
}
