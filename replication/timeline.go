package replication

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Timeline is PostgreSQL's timeline id; 0 means "not known".
type Timeline uint32

// Switch is one line of a timeline history file: Timeline ended at LSN and the next one forked off there.
type Switch struct {
	Timeline Timeline `json:"timeline"`
	LSN      LSN      `json:"lsn"`
	Reason   string   `json:"reason,omitempty"`
}

// History is the ancestry of a timeline, oldest first, as its .history file tells it (PostgreSQL documentation,
// "Timelines"; format in src/backend/access/transam/timeline.c). Timeline 1 has the empty history.
type History []Switch

// ErrHistory says that a history file is malformed.
var ErrHistory = errors.New("malformed timeline history")

// ParseHistory reads the content of a .history file.
func ParseHistory(content []byte) (History, error) {
	var history History
	scanner := bufio.NewScanner(bytes.NewReader(content))
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(line, "\t", 3)
		if len(fields) < 2 {
			return nil, fmt.Errorf("line %q: %w", line, ErrHistory)
		}
		id, err := strconv.ParseUint(strings.TrimSpace(fields[0]), 10, 32)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("timeline in line %q: %w", line, ErrHistory)
		}
		lsn, err := ParseLSN(strings.TrimSpace(fields[1]))
		if err != nil {
			return nil, fmt.Errorf("position in line %q: %w", line, ErrHistory)
		}
		if n := len(history); n > 0 && history[n-1].Timeline >= Timeline(id) {
			return nil, fmt.Errorf("timeline ids do not rise at %q: %w", line, ErrHistory)
		}
		entry := Switch{Timeline: Timeline(id), LSN: lsn}
		if len(fields) == 3 {
			entry.Reason = fields[2]
		}
		history = append(history, entry)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return history, nil
}

// EndOf returns where the given timeline ended in this ancestry; ok is false when it is not an ancestor.
func (h History) EndOf(timeline Timeline) (end LSN, ok bool) {
	for _, entry := range h {
		if entry.Timeline == timeline {
			return entry.LSN, true
		}
	}
	return 0, false
}
