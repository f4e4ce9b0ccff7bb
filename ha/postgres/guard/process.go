package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a line of /proc/PID/stat.
type Process struct {
	PID       int
	Parent    int
	Name      string // comm
	State     byte   // R S D T t Z X
	StartTime uint64 // clock ticks since boot
}

// ReadProcess reads /proc/PID/stat (proc_pid_stat(5)).
func ReadProcess(pid int) (Process, error) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, err
	}
	open, end := bytes.IndexByte(content, '('), bytes.LastIndexByte(content, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("read stat of process %d: no name in it", pid)
	}
	fields := strings.Fields(string(content[end+1:]))
	if len(fields) < 20 {
		return Process{}, fmt.Errorf("read stat of process %d: %d fields", pid, len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return Process{}, fmt.Errorf("read stat of process %d: %w", pid, err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("read stat of process %d: %w", pid, err)
	}
	return Process{
		PID: pid, Parent: parent, Name: string(content[open+1 : end]), State: fields[0][0], StartTime: start,
	}, nil
}

// Children returns the pids of the living and dead (not yet reaped) children of a process, of all its threads.
func Children(pid int) []int {
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		return nil
	}
	var pids []int
	for _, task := range tasks {
		content, err := os.ReadFile(task)
		if err != nil {
			continue // the thread ended
		}
		for field := range strings.FieldsSeq(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// isPostgres reports whether comm is that of a server process; PostgreSQL never changes it.
func isPostgres(comm string) bool { return comm == "postgres" || comm == "postmaster" }

// Find returns the living server processes whose working directory is dataDir, whoever their parent is: PostgreSQL
// changes to its data directory and never leaves it. Zombies are not alive.
func Find(dataDir string) ([]Process, error) {
	want, err := os.Stat(dataDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		p, err := ReadProcess(pid)
		if err != nil || !isPostgres(p.Name) || p.State == 'Z' || p.State == 'X' {
			continue
		}
		cwd, err := os.Stat("/proc/" + entry.Name() + "/cwd")
		if err == nil && os.SameFile(cwd, want) {
			found = append(found, p)
		}
	}
	return found, nil
}

// Sweep kills every server process of dataDir, whoever its parent is, and returns nil when two looks in a row found
// none: the way for an agent whose guard is dead or frozen. Dead ones that are children of this process are reaped.
func Sweep(ctx context.Context, dataDir string) error {
	for clear := 0; clear < 2; {
		found, err := Find(dataDir)
		if err != nil {
			return fmt.Errorf("look for processes of %s: %w", dataDir, err)
		}
		reapOrphans()
		if len(found) == 0 {
			clear++
			continue
		}
		clear = 0
		if err := killAll(ctx, found); err != nil {
			return fmt.Errorf("kill processes of %s: %w", dataDir, err)
		}
	}
	return nil
}

// killAll sends SIGKILL to the processes and waits until the kernel says that they have ended.
func killAll(ctx context.Context, processes []Process) error {
	fds := make([]int, 0, len(processes))
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, p := range processes {
		fd, err := unix.PidfdOpen(p.PID, 0)
		if err != nil {
			continue // gone
		}
		fds = append(fds, fd)
		// The number may have been given to another process before the descriptor was opened.
		if again, err := ReadProcess(p.PID); err != nil || again.StartTime != p.StartTime {
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d: %w", p.PID, err)
		}
	}
	for _, fd := range fds {
		for !ended(fd, 20*time.Millisecond) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// ended waits at most limit for the process behind a pidfd to end.
func ended(fd int, limit time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit/time.Millisecond))
	return err == nil && n > 0
}

// reapOrphans reaps dead server processes that the kernel handed to this process as a subreaper. Children of other
// names are left to whoever started them.
func reapOrphans() {
	for _, pid := range Children(os.Getpid()) {
		if p, err := ReadProcess(pid); err == nil && p.State == 'Z' && isPostgres(p.Name) {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// BecomeSubreaper makes orphaned descendants children of this process (PR_SET_CHILD_SUBREAPER).
func BecomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become child subreaper: %w", err)
	}
	return nil
}

// Watch tells of the end of one process, without polling.
type Watch struct {
	PID  int
	done chan struct{} // closed when the process has ended
	stop sync.Once
	quit [2]int // a pipe that ends the watch
	wg   sync.WaitGroup
}

// NewWatch watches the process with the given pid and start time; one that is already gone has ended.
func NewWatch(pid int, startTime uint64) (*Watch, error) {
	w := &Watch{PID: pid, done: make(chan struct{})}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		if p, perr := ReadProcess(pid); perr != nil || startTime != 0 && p.StartTime != startTime {
			_ = unix.Close(fd)
			err = unix.ESRCH
		}
	}
	if errors.Is(err, unix.ESRCH) {
		w.quit = [2]int{-1, -1}
		close(w.done)
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	if err := unix.Pipe2(w.quit[:], unix.O_CLOEXEC); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	w.wg.Go(func() { w.run(fd) })
	return w, nil
}

// Done is closed when the process has ended.
func (w *Watch) Done() <-chan struct{} { return w.done }

// Close ends the watch; Done stays as it is.
func (w *Watch) Close() {
	w.stop.Do(func() {
		if w.quit[1] >= 0 {
			_ = unix.Close(w.quit[1])
		}
		w.wg.Wait()
		if w.quit[0] >= 0 {
			_ = unix.Close(w.quit[0])
		}
	})
}

// run ends when the process does, or when Close closes the pipe. It occupies a thread: there are two per instance.
func (w *Watch) run(fd int) {
	defer func() { _ = unix.Close(fd) }()
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(w.quit[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[0].Revents != 0 {
			// A dead child of ours is reaped, so that no zombie answers for it.
			if p, err := ReadProcess(w.PID); err == nil && p.Parent == os.Getpid() {
				_, _ = unix.Wait4(w.PID, nil, unix.WNOHANG, nil)
			}
			close(w.done)
			return
		}
		if fds[1].Revents != 0 {
			return
		}
	}
}
