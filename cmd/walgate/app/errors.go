package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrMachine is wrapped by errors about something on this machine that is in the way: a port in use, no PostgreSQL
// binaries, a directory of another cluster. The process exits with its own code.
var ErrMachine = errors.New("this machine")

// PortInUseError names a port that a process must have and another one holds.
type PortInUseError struct {
	Address string
	Purpose string
	Holder  string // "name (pid 123)"; empty when it can't be found out
}

// Error names the port and who holds it.
func (e *PortInUseError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%s (%s) is in use", e.Address, e.Purpose)
	}
	return fmt.Sprintf("%s (%s) is in use by %s", e.Address, e.Purpose, e.Holder)
}

// Unwrap makes it an ErrMachine.
func (e *PortInUseError) Unwrap() error { return ErrMachine }

// CheckPort reports whether address can be listened on now.
func CheckPort(address, purpose string) error {
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &PortInUseError{Address: address, Purpose: purpose, Holder: portHolder(address)}
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMachine, purpose, err)
	}
	_ = listener.Close() // it was only tried
	return nil
}

// portHolder names the process that listens on the port, as far as /proc shows it to this user.
func portHolder(address string) string {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, _ := os.ReadFile(table) // without it nobody is named
		for line := range strings.Lines(string(content)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && fields[3] == "0A" && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+fields[9]+"]"] = true
			}
		}
	}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is valid
	for _, path := range descriptors {
		target, err := os.Readlink(path)
		if err != nil || !inodes[target] {
			continue
		}
		pid := strings.Split(path, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}
