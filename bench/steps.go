package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Step is one line of the cluster's own logs.
type Step struct {
	AtMS    float64 `json:"at_ms"` // since the fault
	Source  string  `json:"source"`
	Message string  `json:"message"`
	Facts   string  `json:"facts"`

	at   time.Time
	move string
}

// Bounds of what is read and kept of the logs.
const (
	maxLogBytes = 8 << 20
	maxSteps    = 120
)

// readSteps collects what agents and guards logged between from and to, in order of time.
func readSteps(dir string, from, to time.Time) []Step {
	var steps []Step
	for _, pattern := range []string{"*.log", "*/*.log", "*/*/*.log"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			continue
		}
		for _, name := range files {
			if strings.HasPrefix(filepath.Base(name), "postgres") {
				continue
			}
			content, err := readEnd(name)
			if err != nil {
				continue // a log that can't be read costs its lines, not the measurement
			}
			source, _ := filepath.Rel(dir, name)
			steps = append(steps, parseSteps(content, source, from, to)...)
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return a.at.Compare(b.at) })
	for i := range steps {
		steps[i].AtMS = since(from, steps[i].at)
	}
	return steps[:min(len(steps), maxSteps)]
}

func readEnd(name string) (content []byte, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-maxLogBytes), maxLogBytes))
}

// parseSteps reads lines of log/slog, text or JSON, and keeps those of the window that are not etcd's.
func parseSteps(content []byte, source string, from, to time.Time) []Step {
	var steps []Step
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		facts := parseLine(lines.Bytes())
		at, err := time.Parse(time.RFC3339Nano, facts["time"])
		if err != nil || at.Before(from.Truncate(time.Millisecond)) || at.After(to) || !tells(facts) {
			continue
		}
		step := Step{Source: source, Message: facts["msg"], at: at, move: facts["move"]}
		for _, known := range []string{"time", "level", "msg"} {
			delete(facts, known)
		}
		var list []string
		for _, key := range slices.Sorted(maps.Keys(facts)) {
			if facts[key] != "" {
				list = append(list, key+"="+facts[key])
			}
		}
		step.Facts = strings.Join(list, " ")
		step.Facts = step.Facts[:min(len(step.Facts), 500)]
		steps = append(steps, step)
	}
	return steps
}

// tells reports whether a line is a step of the change: proxies and monitors have a line for each connection too.
func tells(facts map[string]string) bool {
	switch facts["part"] {
	case "etcd", "monitor":
		return false
	case "proxy":
		return facts["msg"] == "view changed"
	}
	return facts["level"] != "DEBUG"
}

func parseLine(line []byte) map[string]string {
	facts := map[string]string{}
	if bytes.HasPrefix(line, []byte("{")) {
		var values map[string]any
		if json.Unmarshal(line, &values) == nil {
			for key, value := range values {
				facts[key] = fmt.Sprint(value)
			}
		}
		return facts
	}
	rest := string(line)
	for {
		key, value, ok := strings.Cut(strings.TrimLeft(rest, " "), "=")
		if !ok {
			return facts
		}
		if quoted, err := strconv.QuotedPrefix(value); err == nil && strings.HasPrefix(value, `"`) {
			facts[key], _ = strconv.Unquote(quoted)
			rest = value[len(quoted):]
			continue
		}
		facts[key], rest, _ = strings.Cut(value, " ")
	}
}

// firstStep returns when the message with the move was first logged; an empty move means any. -1: never.
func firstStep(steps []Step, message, move string) float64 {
	for _, s := range steps {
		if s.Message == message && (move == "" || s.move == move) {
			return s.AtMS
		}
	}
	return -1
}
