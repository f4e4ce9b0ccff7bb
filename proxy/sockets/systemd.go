package sockets

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor that systemd passes on; see sd_listen_fds(3).
const firstFD = 3

// FromSystemd returns the listening sockets that systemd has opened for this process, none if it has not. It may be
// called once: the variables are removed, so that children do not take them for theirs.
func FromSystemd() ([]Given, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // the name is a valid one
	}
	n, err := passedOn(pid, count, os.Getpid())
	if n == 0 || err != nil {
		return nil, err
	}
	return fromDescriptors(firstFD, n)
}

// passedOn reads how many descriptors are meant for the process self.
func passedOn(pid, count string, self int) (int, error) {
	if pid == "" || pid != strconv.Itoa(self) {
		return 0, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxPassedOn {
		return 0, fmt.Errorf("LISTEN_FDS is %q", count)
	}
	return n, nil
}

// maxPassedOn bounds what is believed.
const maxPassedOn = 1000

// fromDescriptors makes listeners of the descriptors, which are closed.
func fromDescriptors(from, n int) (listeners []Given, err error) {
	for fd := from; fd < from+n; fd++ {
		unix.CloseOnExec(fd)
		l, listenErr := FromDescriptor(fd)
		if listenErr != nil {
			err = errors.Join(err, fmt.Errorf("descriptor %d: %w", fd, listenErr))
			continue
		}
		listeners = append(listeners, Given{Listener: l})
	}
	return listeners, err
}

// FromDescriptor makes a listener of a descriptor, which is closed. The name of a unix socket stays when it is closed.
func FromDescriptor(fd int) (net.Listener, error) {
	file := os.NewFile(uintptr(fd), "inherited")
	defer func() { _ = file.Close() }() // the listener has a duplicate
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("make a listener: %w", err)
	}
	unlink(l, false)
	return l, nil
}

// Notify tells systemd how the process is (sd_notify(3)), for example READY=1; without systemd it does nothing.
func Notify(lines ...string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer func() { _ = conn.Close() }() // what was sent is sent
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Reloading is what Notify says at the beginning of a reload, whose end is READY=1. systemd wants the time.
func Reloading() []string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it can't fail
	return []string{"RELOADING=1", "MONOTONIC_USEC=" + strconv.FormatInt(now.Nano()/1000, 10)}
}
