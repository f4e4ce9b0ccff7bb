package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is one process, held so that its pid can't come to mean another.
type process struct {
	pid     int
	started uint64 // clock ticks after boot, /proc/<pid>/stat field 22
	fd      int    // pidfd
}

// openProcess takes hold of the process of the pid, whose command must be one of commands.
func openProcess(pid int, commands ...string) (*process, error) {
	if pid <= 1 {
		return nil, fmt.Errorf("process %d: not one that may be signalled", pid)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	st, err := readStat(pid)
	if err == nil && !slices.Contains(commands, st.command) {
		err = fmt.Errorf("it runs %q, not %q", st.command, commands)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{pid: pid, started: st.started, fd: fd}, nil
}

// signal sends to exactly this process. One that has ended already is no error.
func (p *process) signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

func (p *process) close() { _ = unix.Close(p.fd) }

// stat is the part of /proc/<pid>/stat that counts (proc(5)).
type stat struct {
	command string
	parent  int
	started uint64
}

func readStat(pid int) (stat, error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(content)
}

// parseStat splits at the last parenthesis: a command may hold anything.
func parseStat(content []byte) (stat, error) {
	open, end := bytes.IndexByte(content, '('), bytes.LastIndexByte(content, ')')
	if open < 0 || end < open {
		return stat{}, errors.New("malformed stat")
	}
	fields := bytes.Fields(content[end+1:])
	if len(fields) < 20 {
		return stat{}, errors.New("short stat")
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return stat{}, fmt.Errorf("parent in stat: %w", err)
	}
	started, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time in stat: %w", err)
	}
	return stat{command: string(content[open+1 : end]), parent: parent, started: started}, nil
}

// children returns the pids whose parent is pid.
func children(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if st, err := readStat(child); err == nil && st.parent == pid {
			found = append(found, child)
		}
	}
	return found, nil
}

// group is a set of processes that are treated alike.
type group struct {
	members []*process
}

func (g *group) add(pid int, commands ...string) error {
	p, err := openProcess(pid, commands...)
	if err != nil {
		return err
	}
	g.members = append(g.members, p)
	return nil
}

// addChildren adds the children of the parent that are not in yet and tells whether there were any. The parent must
// stand still, or more may follow.
func (g *group) addChildren(parent int) (more bool, err error) {
	pids, err := children(parent)
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		if slices.ContainsFunc(g.members, func(p *process) bool { return p.pid == pid }) {
			continue
		}
		if err := g.add(pid, "postgres"); errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		} else if err != nil {
			return false, err
		}
		more = true
	}
	return more, nil
}

// signal sends to all, in order, and returns the first error after having tried all.
func (g *group) signal(sig syscall.Signal) error {
	var errs []error
	for _, p := range g.members {
		errs = append(errs, p.signal(sig))
	}
	return errors.Join(errs...)
}

func (g *group) close() {
	for _, p := range g.members {
		p.close()
	}
	g.members = nil
}
