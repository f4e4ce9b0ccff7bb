package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is one thing to listen on.
type Spec struct {
	Network   string // tcp or unix
	Address   string // host:port; a path; or DIR:PORT for the socket of that port where libpq looks for it
	ReusePort bool   // TCP: several processes may listen on it, and the kernel spreads connections
	Backlog   int    // connections that wait to be accepted; 0: as many as the kernel allows
	Mode      fs.FileMode
	Group     string // of a unix socket; empty: that of the process
}

// Path is where a unix socket lies.
func (s Spec) Path() string {
	if dir, port, ok := cutLast(s.Address, ":"); ok {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			return dir + "/.s.PGSQL." + port
		}
	}
	return s.Address
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Given is a socket that another process has opened.
type Given struct {
	Listener net.Listener
	// Ours: the name of a unix socket goes with the last process of this program that listens on it. False: it is
	// systemd's.
	Ours bool
}

// Set holds sockets that the process was given and that nobody has taken yet, and knows those that were taken or opened.
// It is safe for concurrent use; the zero Set is empty.
type Set struct {
	mu    sync.Mutex
	given []Given
	taken []Given
}

// Give adds sockets. Until one is taken its name stays when it is closed.
func (s *Set) Give(sockets ...Given) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(s.given, sockets...)
}

// Close closes what nobody has taken. Of unix sockets it removes the names that are ours.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.given {
		unlink(g.Listener, g.Ours)
		_ = g.Listener.Close() // nobody uses it
	}
	s.given = nil
}

// Taken returns what Listen has returned so far, for another process.
func (s *Set) Taken() []Given {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// Keep lets the names of all unix sockets outlive this process: another one listens on them too.
func (s *Set) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.taken {
		unlink(g.Listener, false)
	}
}

// Own lets the names of unix sockets that are ours go with this process: the one that gave them has left.
func (s *Set) Own() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.taken {
		unlink(g.Listener, g.Ours)
	}
}

// Has reports whether the address was given.
func (s *Set) Has(spec Spec) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index(spec) >= 0
}

// index finds a given listener. Called with mu held.
func (s *Set) index(spec Spec) int {
	for i, g := range s.given {
		if same(g.Listener.Addr(), spec) {
			return i
		}
	}
	return -1
}

// same compares addresses; an unspecified host is the same in both families.
func same(a net.Addr, spec Spec) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return spec.Network == "unix" && a.Name == spec.Path()
	case *net.TCPAddr:
		if spec.Network == "unix" {
			return false
		}
		want, err := net.ResolveTCPAddr("tcp", spec.Address)
		if err != nil || want.Port != a.Port {
			return false
		}
		unspecified := want.IP == nil || want.IP.IsUnspecified()
		return want.IP.Equal(a.IP) || unspecified && a.IP.IsUnspecified()
	}
	return false
}

// Listen takes the socket that was given for the address, or opens one. ctx bounds the resolution of names.
func (s *Set) Listen(ctx context.Context, spec Spec) (net.Listener, error) {
	s.mu.Lock()
	if i := s.index(spec); i >= 0 {
		g := s.given[i]
		s.given = slices.Delete(s.given, i, i+1)
		s.taken = append(s.taken, g)
		s.mu.Unlock()
		return g.Listener, nil
	}
	s.mu.Unlock()
	l, err := open(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, Given{Listener: l, Ours: true})
	return l, nil
}

func open(ctx context.Context, spec Spec) (net.Listener, error) {
	listen := listenUnix
	if spec.Network != "unix" {
		listen = listenTCP
	}
	l, err := listen(ctx, spec)
	if err != nil {
		return nil, err
	}
	if spec.Backlog > 0 {
		if err := setBacklog(l, spec.Backlog); err != nil {
			_ = l.Close() // the first error is the one that tells
			return nil, fmt.Errorf("set backlog: %w", err)
		}
	}
	return l, nil
}

func listenTCP(ctx context.Context, spec Spec) (net.Listener, error) {
	var config net.ListenConfig
	if spec.ReusePort {
		config.Control = func(_, _ string, raw syscall.RawConn) error {
			var set error
			err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
			return errors.Join(err, set)
		}
	}
	return config.Listen(ctx, "tcp", spec.Address)
}

// listenUnix opens a unix socket. What an ended process has left at its path is removed; one that somebody listens on, or
// a file of another kind, is an error.
func listenUnix(ctx context.Context, spec Spec) (net.Listener, error) {
	path := spec.Path()
	if err := RemoveStale(ctx, "unix", path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	// Until here the umask keeps others out.
	err = func() error {
		if spec.Group != "" {
			group, err := user.LookupGroup(spec.Group)
			if err != nil {
				return err
			}
			gid, err := strconv.Atoi(group.Gid)
			if err != nil {
				return err
			}
			if err := os.Chown(path, -1, gid); err != nil {
				return err
			}
		}
		if spec.Mode != 0 {
			return os.Chmod(path, spec.Mode)
		}
		return nil
	}()
	if err != nil {
		_ = l.Close() // the first error is the one that tells
		return nil, err
	}
	return l, nil
}

// RemoveStale removes what an ended process has left at the path of a unix socket. One that somebody listens on is
// syscall.EADDRINUSE; network is unix or unixpacket.
func RemoveStale(ctx context.Context, network, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and no socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, network, path)
	switch {
	case err == nil:
		_ = conn.Close() // it has told what we wanted to know
		return fmt.Errorf("%s: %w: a process listens on it", path, syscall.EADDRINUSE)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("look whether %s is in use: %w", path, err)
	}
	return os.Remove(path)
}

func setBacklog(l net.Listener, n int) error {
	sc, ok := l.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.Listen(int(fd), n) })
	return errors.Join(err, set)
}

// unlink says whether the name of a unix socket goes with this process's listener.
func unlink(l net.Listener, on bool) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(on)
	}
}
