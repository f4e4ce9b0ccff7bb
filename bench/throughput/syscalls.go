package throughput

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Syscalls are calls of the proxy per transaction, per megabyte for bulk. Tool says who counted: strace, or "proc" for
// /proc/PID/io, which knows read and write calls only.
type Syscalls struct {
	Endpoint string  `json:"endpoint"`
	Workload string  `json:"workload"`
	Clients  int     `json:"clients"`
	Tool     string  `json:"tool"`
	Total    float64 `json:"total"`
	Read     float64 `json:"read"`
	Write    float64 `json:"write"`
	Wait     float64 `json:"wait"`    // epoll_wait and its kin
	Control  float64 `json:"control"` // epoll_ctl
	Futex    float64 `json:"futex"`
	Sleep    float64 `json:"sleep"`
	Other    float64 `json:"other"`
	Problem  string  `json:"problem,omitempty"`
}

// syscallSeconds is how long calls are counted. A traced process is slower: what counts is the number per transaction.
const syscallSeconds = 3

// countSyscalls makes an extra run for it.
func (b *bench) countSyscalls(ctx context.Context, e *endpoint, c cell) (s Syscalls, err error) {
	s = Syscalls{Endpoint: e.name, Workload: c.work.name, Clients: c.clients, Tool: "strace"}
	strace, err := program("strace")
	if err != nil {
		s.Tool = "proc"
		return s, b.countReads(ctx, e, c, &s)
	}
	out := filepath.Join(b.ground.dir, "strace-"+e.name)
	tracer, err := spawn(b.ground.dir, start{name: "strace", program: strace, stop: syscall.SIGINT,
		args: []string{"-c", "-f", "-q", "-o", out, "-p", strconv.Itoa(e.pid())}})
	if err != nil {
		return s, err
	}
	err = until(ctx, 10*time.Second, tracer, func(context.Context) error { return traced(e.pid()) })
	var l load
	if err == nil {
		l, err = b.load(ctx, e, c, syscallSeconds)
	}
	if err := errors.Join(err, tracer.end(10*time.Second)); err != nil {
		return s, err
	}
	content, err := os.ReadFile(out)
	if err != nil {
		return s, fmt.Errorf("read strace's counts: %w", err)
	}
	s.add(content)
	s.per(b.units(c, l))
	return s, nil
}

func (b *bench) units(c cell, l load) float64 {
	if c.work.bulk() {
		return float64(l.transactions * b.cfg.Megabytes)
	}
	return float64(l.transactions)
}

// countReads does without a tracer.
func (b *bench) countReads(ctx context.Context, e *endpoint, c cell, s *Syscalls) error {
	before, err := readUsage(e.pid())
	if err != nil {
		return err
	}
	l, err := b.load(ctx, e, c, syscallSeconds)
	if err != nil {
		return err
	}
	after, err := readUsage(e.pid())
	used := after.since(before)
	s.Read, s.Write, s.Total = float64(used.reads), float64(used.writes), float64(used.reads+used.writes)
	s.per(b.units(c, l))
	return err
}

// traced tells whether somebody traces the process.
func traced(pid int) error {
	status, err := readNumbers(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err == nil && status["TracerPid"] == 0 {
		err = errors.New("strace has not attached yet")
	}
	return err
}

// add counts what strace -c prints: a line for each call, with the number in the fourth column and the name in the last.
func (s *Syscalls) add(table []byte) {
	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if len(fields) < 5 {
			continue
		}
		n, err := strconv.ParseFloat(string(fields[3]), 64)
		name := string(fields[len(fields)-1])
		if err != nil || name == "total" {
			continue
		}
		s.Total += n
		*s.kind(name) += n
	}
}

func (s *Syscalls) kind(name string) *float64 {
	switch name {
	case "read", "readv", "recvfrom", "recvmsg":
		return &s.Read
	case "write", "writev", "sendto", "sendmsg":
		return &s.Write
	case "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll":
		return &s.Wait
	case "epoll_ctl":
		return &s.Control
	case "futex":
		return &s.Futex
	case "nanosleep", "clock_nanosleep":
		return &s.Sleep
	}
	return &s.Other
}

// per divides all counts.
func (s *Syscalls) per(units float64) {
	for _, n := range []*float64{&s.Total, &s.Read, &s.Write, &s.Wait, &s.Control, &s.Futex, &s.Sleep, &s.Other} {
		*n /= units
	}
}

// profile makes an extra run during which walgate's CPU is profiled, into the folder of reports.
func (b *bench) profile(ctx context.Context, e *endpoint, c cell) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan error, 1)
	go func() { // ends with the load
		_, err := b.load(running, e, c, b.cfg.Seconds+2)
		loaded <- err
	}()
	content, err := fetch(ctx, e.api+"/debug/pprof/profile?seconds="+strconv.Itoa(b.cfg.Seconds))
	if err != nil {
		stop()
		return errors.Join(err, <-loaded)
	}
	if err := os.MkdirAll(b.cfg.Out, 0o755); err != nil {
		return errors.Join(fmt.Errorf("save profile: %w", err), <-loaded)
	}
	name := filepath.Join(b.cfg.Out, fmt.Sprintf("%s-%s-%d.pprof", e.name, c.work.name, c.clients))
	err = errors.Join(os.WriteFile(name, content, 0o644), <-loaded)
	if goTool, lookErr := exec.LookPath("go"); err == nil && lookErr == nil {
		b.cfg.say("profile: %s tool pprof -top %s", goTool, name)
	}
	return err
}
