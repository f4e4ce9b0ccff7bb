package throughput

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ, which Linux fixes at 100 on every architecture that Go knows.
const tick = 10 * time.Millisecond

// usage is what a process has used since it began; zero for no process.
type usage struct {
	cpu      time.Duration // user and system
	switches int64         // of context, of its living threads
	resident int64         // bytes
	reads    int64         // calls of read(2) and its kin on descriptors; recv(2) is not among them
	writes   int64
}

func (u usage) since(before usage) usage {
	return usage{cpu: u.cpu - before.cpu, switches: u.switches - before.switches, resident: u.resident,
		reads: u.reads - before.reads, writes: u.writes - before.writes}
}

// readUsage reads /proc/PID; pid 0 is no process.
func readUsage(pid int) (usage, error) {
	if pid == 0 {
		return usage{}, nil
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	own, _, err := readTimes(pid)
	if err != nil {
		return usage{}, err
	}
	u := usage{cpu: own}
	status, err := readNumbers(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, err
	}
	u.resident = status["VmRSS"] << 10
	tasks, err := filepath.Glob(filepath.Join(dir, "task", "*", "status"))
	if err != nil {
		return usage{}, err
	}
	for _, name := range tasks {
		task, err := readNumbers(name)
		if err != nil {
			continue // the thread has ended
		}
		u.switches += task["voluntary_ctxt_switches"] + task["nonvoluntary_ctxt_switches"]
	}
	if io, err := readNumbers(filepath.Join(dir, "io")); err == nil { // another user's may not be read
		u.reads, u.writes = io["syscr"], io["syscw"]
	}
	return u, nil
}

// readNumbers reads lines of the form "name: number ...".
func readNumbers(name string) (map[string]int64, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	numbers := map[string]int64{}
	for line := range strings.Lines(string(content)) {
		key, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				numbers[key] = n
			}
		}
	}
	return numbers, nil
}

// readTimes returns the CPU time of a process, and that of its children which it has waited for.
func readTimes(pid int) (own, waited time.Duration, err error) {
	_, own, waited, err = readStat(pid)
	return own, waited, err
}

// readStat reads /proc/PID/stat (proc(5)): the parent, and times in ticks.
func readStat(pid int) (parent int, own, waited time.Duration, err error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, 0, err
	}
	return parseStat(content)
}

// parseStat splits at the last parenthesis: a command may hold anything.
func parseStat(content []byte) (parent int, own, waited time.Duration, err error) {
	end := bytes.LastIndexByte(content, ')')
	fields := bytes.Fields(content[end+1:])
	if end < 0 || len(fields) < 15 {
		return 0, 0, 0, errors.New("malformed stat")
	}
	number := func(i int) time.Duration {
		n, parseErr := strconv.ParseInt(string(fields[i]), 10, 64)
		err = errors.Join(err, parseErr)
		return time.Duration(n)
	}
	parent = int(number(1))
	own, waited = (number(11)+number(12))*tick, (number(13)+number(14))*tick
	if err != nil {
		return 0, 0, 0, fmt.Errorf("malformed stat: %w", err)
	}
	return parent, own, waited, nil
}

// familyCPU is what a process has used, its children, and those that have ended: PostgreSQL's work is done so. A child
// that is waited for while the others are read would be missed, so the reading is repeated until none was.
func familyCPU(parent int) (total time.Duration, err error) {
	const attempts = 50
	for range attempts {
		own, before, err := readTimes(parent)
		if err != nil {
			return 0, err
		}
		total = own + before
		if err := eachChild(parent, func(_ int, own time.Duration) { total += own }); err != nil {
			return 0, err
		}
		if _, after, err := readTimes(parent); err != nil || after == before {
			return total, err
		}
	}
	return total, nil
}

// eachChild calls do for the children of a process that live now.
func eachChild(parent int, do func(pid int, cpu time.Duration)) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if of, own, _, err := readStat(pid); err == nil && of == parent {
			do(pid, own)
		}
	}
	return nil
}

// readFamily is what a process and its children have used. Memory that they share counts once.
func readFamily(parent int) (usage, error) {
	all, err := readUsage(parent)
	if err != nil {
		return usage{}, err
	}
	if all.cpu, err = familyCPU(parent); err != nil {
		return usage{}, err
	}
	all.resident = proportional(parent)
	err = eachChild(parent, func(pid int, _ time.Duration) {
		all.resident += proportional(pid)
		if one, err := readUsage(pid); err == nil { // else it has ended
			all.switches, all.reads, all.writes = all.switches+one.switches, all.reads+one.reads, all.writes+one.writes
		}
	})
	return all, err
}

// proportional is the resident memory of a process with its share of what it shares, in bytes; 0 if it may not be read.
func proportional(pid int) int64 {
	numbers, err := readNumbers(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0
	}
	return numbers["Pss"] << 10
}
