package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// process is one process as /proc tells of it. pid and start together name it for ever: pids are used again.
type process struct {
	pid     int
	parent  int
	start   uint64 // clock ticks since boot
	state   byte   // R, S, D, T, Z ...
	exe     string
	cwd     string
	command string
}

func (p process) String() string {
	return fmt.Sprintf("pid %d (parent %d, state %c) %s: %s", p.pid, p.parent, p.state, p.exe, p.command)
}

// readProcess reads /proc/PID; ok is false when there is no such process, or only a zombie of it.
func readProcess(pid int) (p process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, false
	}
	// The command in parentheses may hold anything, so fields are counted behind the last parenthesis (proc(5)).
	end := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat)[end+1:])
	if end < 0 || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return p, false
	}
	p = process{pid: pid, state: fields[0][0]}
	p.parent, _ = strconv.Atoi(fields[1])
	p.start, _ = strconv.ParseUint(fields[19], 10, 64)
	p.exe, _ = os.Readlink(dir + "/exe") // empty: a kernel thread, or a process that is ending
	p.exe = strings.TrimSuffix(p.exe, " (deleted)")
	p.cwd, _ = os.Readlink(dir + "/cwd")
	command, _ := os.ReadFile(dir + "/cmdline")
	p.command = strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
	return p, true
}

// processes lists every living process.
func processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		panic("no /proc: " + err.Error())
	}
	var list []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			list = append(list, p)
		}
	}
	return list
}

// processesBelow lists living processes that belong to dir: the binary under test and PostgreSQL's programs when they
// work in it or name it in their arguments (a server works in its data directory), and their descendants.
func processesBelow(dir string) []process {
	all := processes()
	inside := map[int]bool{}
	for _, p := range all {
		name := filepath.Base(p.exe)
		ours := p.exe == binary || name == "postgres" || name == "initdb" || strings.HasPrefix(name, "pg_")
		if ours && (within(p.cwd, dir) || strings.Contains(p.command, dir+"/")) {
			inside[p.pid] = true
		}
	}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if inside[p.parent] && !inside[p.pid] {
				inside[p.pid], grew = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p process) bool { return !inside[p.pid] })
}

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// alive reports whether this very process still runs.
func (p process) alive() bool {
	now, ok := readProcess(p.pid)
	return ok && now.start == p.start
}

// signal sends to this very process; one that has ended is passed over.
func (p process) signal(s syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(p.pid, s) // it may end in between
	}
}

func (p process) kill() { p.signal(syscall.SIGKILL) }

// residentBytes is VmRSS.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatalf("read memory of process %d: %v", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatalf("read %q: %v", line, err)
			}
			return kB << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}

// postgresUser is who runs PostgreSQL when the tests run as root.
func postgresUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find user postgres: %w", err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("read ids of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func asUser(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential}
}

// logTails shows the last lines of every log below dir; data directories and stores are passed over.
func logTails(dir string, lines int) string {
	var all strings.Builder
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error { // what can't be read isn't shown
		if err != nil {
			return nil
		}
		if entry.IsDir() && (entry.Name() == "base" || entry.Name() == "pg_wal" || entry.Name() == "etcd") {
			return filepath.SkipDir
		}
		if !strings.Contains(entry.Name(), ".log") {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		tail := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
		tail = tail[max(0, len(tail)-lines):]
		fmt.Fprintf(&all, "==> %s\n%s\n", path, strings.Join(tail, "\n"))
		return nil
	})
	return all.String()
}
