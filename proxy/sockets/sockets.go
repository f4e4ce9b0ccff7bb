package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
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

// Set holds sockets that the process was given and that nobody has taken yet. It is safe for concurrent use; the zero Set
// is empty.
type Set struct {
	mu    sync.Mutex
	given []net.Listener
}

// Give adds listeners.
func (s *Set) Give(listeners ...net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(s.given, listeners...)
}

// Close closes what nobody has taken. Unix sockets keep their names: they may be somebody else's too.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.given {
		Keep(l)
		_ = l.Close() // nobody uses it
	}
	s.given = nil
}

// Has reports whether the address was given.
func (s *Set) Has(spec Spec) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index(spec) >= 0
}

// index finds a given listener. Called with mu held.
func (s *Set) index(spec Spec) int {
	for i, l := range s.given {
		if same(l.Addr(), spec) {
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
		l := s.given[i]
		s.given = append(s.given[:i], s.given[i+1:]...)
		s.mu.Unlock()
		return l, nil
	}
	s.mu.Unlock()
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
	if err := removeStale(ctx, path); err != nil {
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

func removeStale(ctx context.Context, path string) error {
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
	conn, err := dialer.DialContext(ctx, "unix", path)
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

// Keep lets a unix socket's name outlive this process's listener: another process has it too.
func Keep(l net.Listener) {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
}
