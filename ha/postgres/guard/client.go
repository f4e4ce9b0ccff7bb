package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client is an agent's connection to its guard. Its methods are safe for concurrent use and bounded by their contexts.
// The newest connection is the guard's agent; older ones are refused with ErrStale.
type Client struct {
	conn *net.UnixConn
	pid  int
	news chan State    // the newest state; closed when the connection has ended
	gone chan struct{} // closed when the connection has ended
	wg   sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan response // each gets one answer, or is closed with gone
	state   State
	known   bool // the first state has arrived
}

// Dial connects to the guard that listens on the socket; ErrNoGuard when none does. It refuses a guard of another user.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNoGuard
	}
	if err != nil {
		return nil, fmt.Errorf("connect to guard: %w", err)
	}
	stream, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to guard: %T", conn), conn.Close())
	}
	credentials, err := peer(stream)
	if err == nil && int(credentials.Uid) != os.Geteuid() {
		err = fmt.Errorf("the guard belongs to user id %d: %w", credentials.Uid, unix.EPERM)
	}
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	c := &Client{
		conn: stream, pid: int(credentials.Pid), pending: make(map[uint64]chan response),
		news: make(chan State, 1), gone: make(chan struct{}),
	}
	first := make(chan struct{})
	c.wg.Go(func() { c.read(first) })
	select {
	case <-first:
		return c, nil
	case <-c.gone:
		err = ErrNoGuard
	case <-ctx.Done():
		err = fmt.Errorf("guard %d does not answer: %w", c.pid, context.Cause(ctx))
	}
	c.Close()
	return nil, err
}

// SpawnOptions say how to start a guard.
type SpawnOptions struct {
	Command []string // argument vector that ends up in Run; the guard's arguments are appended
	Socket  string
	Lock    string
	Linger  time.Duration
	LogFile string // its stderr
}

// maxLog is the size past which a new guard starts its log anew.
const maxLog = 1 << 20

// Spawn starts a guard in a session of its own and connects to it. The guard survives this process. Its end is not
// waited for here: watch it with NewWatch, which reaps it.
func Spawn(ctx context.Context, o SpawnOptions) (*Client, error) {
	if len(o.Command) == 0 {
		return nil, fmt.Errorf("start guard: no command")
	}
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	if info, err := os.Stat(o.LogFile); err == nil && info.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	output, err := os.OpenFile(o.LogFile, flags, 0o640)
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	defer func() { _ = output.Close() }()
	readyHere, readyThere, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	defer func() { _ = readyHere.Close() }()
	args := append(append([]string{}, o.Command[1:]...),
		"--socket", o.Socket, "--lock", o.Lock, "--linger", o.Linger.String())
	command := exec.Command(o.Command[0], args...) //nolint:gosec // our own executable
	command.Dir = "/"
	command.Stdout, command.Stderr = output, output
	command.ExtraFiles = []*os.File{readyThere} // readyFD
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = command.Start()
	_ = readyThere.Close()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	pid := command.Process.Pid
	if err := command.Process.Release(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := readyHere.SetReadDeadline(deadline); err != nil {
			return nil, fmt.Errorf("start guard: %w", err)
		}
	}
	word := make([]byte, 16)
	if n, err := readyHere.Read(word); err != nil || n == 0 {
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		// Another agent's guard may have been quicker: then it is the one.
		if c, derr := Dial(ctx, o.Socket); derr == nil {
			return c, nil
		}
		return nil, fmt.Errorf("guard %d did not come up, see %s: %w", pid, o.LogFile, errors.Join(err, ctx.Err()))
	}
	return Dial(ctx, o.Socket)
}

// PID returns the guard's process id.
func (c *Client) PID() int { return c.pid }

// State returns what the guard told last.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// News delivers the newest state whenever the guard tells of a change; it is closed when the connection has ended.
func (c *Client) News() <-chan State { return c.news }

// Gone is closed when the connection has ended.
func (c *Client) Gone() <-chan struct{} { return c.gone }

// Start starts the postmaster.
func (c *Client) Start(ctx context.Context, spec Spec) error {
	return c.do(ctx, request{Verb: verbStart, Start: &spec})
}

// Signal sends a signal to the postmaster; ErrIdle when there is none.
func (c *Client) Signal(ctx context.Context, sig syscall.Signal) error {
	return c.do(ctx, request{Verb: verbSignal, Signal: int(sig)})
}

// Arm sets the deadline.
func (c *Client) Arm(ctx context.Context, d Deadline) error {
	return c.do(ctx, request{Verb: verbArm, Deadline: &d})
}

// Disarm removes the deadline: for a standby, or while the cluster is paused.
func (c *Client) Disarm(ctx context.Context, why string) error {
	return c.do(ctx, request{Verb: verbDisarm, Why: why})
}

// Kill kills the instance and returns nil on proof that no process of it is left.
func (c *Client) Kill(ctx context.Context, why string) error {
	return c.do(ctx, request{Verb: verbKill, Why: why})
}

// Refresh asks for the state.
func (c *Client) Refresh(ctx context.Context) (State, error) {
	err := c.do(ctx, request{Verb: verbState})
	return c.State(), err
}

// Quit ends the guard, which refuses while processes of the instance are left, and waits until its connection is gone.
func (c *Client) Quit(ctx context.Context) error {
	err := c.do(ctx, request{Verb: verbQuit})
	if errors.Is(err, ErrNoGuard) {
		return nil
	}
	return err
}

// Close ends the connection and waits for its reader.
func (c *Client) Close() {
	_ = c.conn.Close()
	c.wg.Wait()
}

// do sends a request and waits for its answer.
func (c *Client) do(ctx context.Context, r request) error {
	answer := make(chan response, 1)
	c.mu.Lock()
	select {
	case <-c.gone:
		c.mu.Unlock()
		return ErrNoGuard
	default:
	}
	c.next++
	r.ID = c.next
	c.pending[r.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, r.ID)
		c.mu.Unlock()
	}()
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ask guard to %s: %w", r.Verb, err)
	}
	// A line is far smaller than the socket's buffer; a frozen guard that was sent hundreds still cannot block us.
	if err := c.conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("ask guard to %s: %w", r.Verb, errors.Join(err, ErrNoGuard))
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		_ = c.conn.Close() // half a line may have been sent
		return fmt.Errorf("ask guard to %s: %w", r.Verb, errors.Join(err, ErrNoGuard))
	}
	select {
	case a := <-answer:
		if a.Error == "" {
			return nil
		}
		if sentinel := codes[a.Code]; sentinel != nil {
			return fmt.Errorf("ask guard to %s: %w", r.Verb, sentinel)
		}
		return fmt.Errorf("ask guard to %s: %s: %w", r.Verb, a.Error, ErrRequest)
	case <-c.gone:
		return ErrNoGuard
	case <-ctx.Done():
		return fmt.Errorf("ask guard to %s: %w", r.Verb, context.Cause(ctx))
	}
}

// read ends when the connection does.
func (c *Client) read(first chan<- struct{}) {
	defer close(c.news)
	defer close(c.gone)
	scanner := bufio.NewScanner(c.conn)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		var r response
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			return
		}
		c.mu.Lock()
		c.state = r.State
		if !c.known {
			c.known = true
			close(first)
		}
		if answer := c.pending[r.ID]; answer != nil {
			answer <- r // buffered, and ids are not reused
			delete(c.pending, r.ID)
		}
		c.mu.Unlock()
		c.publish(r.State)
	}
}

// publish replaces the news that nobody took.
func (c *Client) publish(s State) {
	for {
		select {
		case c.news <- s:
			return
		default:
		}
		select {
		case <-c.news:
		default:
		}
	}
}
