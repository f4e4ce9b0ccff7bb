package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process names one process for certain: a pid is used again, a pid with its start time is not.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, proc(5), field 22 of /proc/PID/stat
}

// FindProcess returns the process that has the pid now; the zero Process when there is none.
func FindProcess(pid int) Process {
	start, alive := processStart(pid)
	if !alive {
		return Process{}
	}
	return Process{PID: pid, Start: start}
}

// Alive reports whether the process still runs; one that is dead and not yet waited for does not.
func (p Process) Alive() bool {
	start, alive := processStart(p.PID)
	return p.PID != 0 && alive && start == p.Start
}

// Signal sends the signal if the pid still belongs to the process. The descriptor holds the pid, so that it cannot be
// used again between the check and the signal.
func (p Process) Signal(signal syscall.Signal) error {
	if p.PID == 0 {
		return os.ErrProcessDone
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !p.Alive() {
		return os.ErrProcessDone
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return os.ErrProcessDone
		}
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// processStart reads the start time of a living process.
func processStart(pid int) (start uint64, alive bool) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The name in parentheses may hold anything; what follows the last one is fields 3 and on.
	_, rest, ok := bytes.Cut(content[max(bytes.LastIndexByte(content, ')'), 0):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, err == nil
}

// NodeFacts are the processes of one node, written to RUN_DIR/node.json whenever they change.
type NodeFacts struct {
	Agent      Process `json:"agent"`
	Guard      Process `json:"guard"`
	Postmaster Process `json:"postmaster"`
}

const nodeFactsFile = "node.json"

// WriteNodeFacts replaces the file as a whole, so that a reader never sees half of it.
func WriteNodeFacts(runDir string, facts NodeFacts) error {
	return writeJSONFile(filepath.Join(runDir, nodeFactsFile), facts, 0o644)
}

// ReadNodeFacts reads what a node wrote last. Processes that do not live any more are zero. No file: none lives.
func ReadNodeFacts(runDir string) (NodeFacts, error) {
	var facts NodeFacts
	content, err := os.ReadFile(filepath.Join(runDir, nodeFactsFile))
	if errors.Is(err, os.ErrNotExist) {
		return facts, nil
	}
	if err != nil {
		return facts, fmt.Errorf("read pid facts: %w", err)
	}
	if err := json.Unmarshal(content, &facts); err != nil {
		return facts, fmt.Errorf("read pid facts: %w", err)
	}
	for _, p := range []*Process{&facts.Agent, &facts.Guard, &facts.Postmaster} {
		if !p.Alive() {
			*p = Process{}
		}
	}
	return facts, nil
}

// writeJSONFile writes a new file beside path and renames it.
func writeJSONFile(path string, value any, mode os.FileMode) error {
	content, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = file.Write(append(content, '\n'))
	err = errors.Join(err, file.Chmod(mode), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // the first error counts
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
