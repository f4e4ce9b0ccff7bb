package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/proxy/sockets"
	"github.com/walgate/walgate/proxy/takeover"
	"github.com/walgate/walgate/replication/boottime"
)

// takeoverPatience is how long a new process waits until it knows a primary that takes writes. Then it gives up, and the
// old one goes on: better that than logins that fail.
const takeoverPatience = time.Minute

// takeoverSocket is where the running process waits for its successor; chosen says that the configuration names it.
func takeoverSocket(cfg Config) (path string, chosen bool) {
	if cfg.Proxy.Takeover.Socket != "" {
		return cfg.Proxy.Takeover.Socket, true
	}
	return filepath.Join(cfg.Node.RunDir, "takeover-"+cfg.Proxy.Listen+".sock"), false
}

// self is this process in the conversation with others of the same proxy.
func (s *sidecar) self() takeover.Identity {
	return takeover.Identity{Cluster: s.cfg.Cluster.Name, Version: Version(), PID: os.Getpid()}
}

// succeed takes over from the running process; taken is false if there is none.
func (s *sidecar) succeed(ctx, background context.Context) (taken bool, err error) {
	log := s.log.With("part", "takeover")
	ctx, cancel := context.WithTimeoutCause(ctx, takeoverPatience, errTakeoverLate)
	defer cancel()
	old, given, err := takeover.Dial(ctx, s.path, s.self(), s.mesh, log)
	if errors.Is(err, takeover.ErrNobody) {
		log.Info("no process to take over from", "socket", s.path)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	log.Info("taking over", "pid", old.Peer.PID, "version", old.Peer.Version, "own_version", Version(), "sockets", len(given))
	s.sockets.Give(given...)
	if err := errors.Join(s.checkPorts(), s.buildAPI(ctx, nil)); err != nil {
		return true, err
	}
	s.observe(background)
	s.runProxy(s.clients)
	if _, err := s.proxy.Addrs(ctx); err != nil {
		return true, s.reason(err)
	}
	if err := s.awaitWritable(ctx); err != nil {
		return true, err
	}
	if err := old.Prepare(ctx); err != nil {
		return true, err
	}
	// From here on this process serves, whatever becomes of the old one.
	close(s.accept)
	s.serveAPI(background)
	if err := s.enter(); err != nil {
		return true, err
	}
	s.background.Go(func() { s.settle(background, old) })
	return true, nil
}

// errTakeoverLate says that a takeover was given up before anything had changed.
var errTakeoverLate = fmt.Errorf("%w: no takeover: no primary that takes writes was seen within %s; the old process goes on", ErrMachine, takeoverPatience)

// reason prefers the end of a service to that of the wait for it.
func (s *sidecar) reason(err error) error {
	select {
	case failed := <-s.failed:
		return failed
	default:
		return err
	}
}

// awaitWritable waits until this process knows the cluster, positions included, and may let writes through.
func (s *sidecar) awaitWritable(ctx context.Context) error {
	for {
		view, viewChanged := s.follower.Views().Changed()
		grant, gateChanged := s.follower.Gate().Changed()
		board, boardChanged := s.boards.Changed()
		now := boottime.Now()
		if view.Writable() && grant.Epoch == view.Epoch && now < grant.Deadline && len(board.Nodes) > 0 {
			return nil
		}
		select {
		case <-viewChanged:
		case <-gateChanged:
		case <-boardChanged:
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle ends the old process's accepting and waits for its own successor.
func (s *sidecar) settle(ctx context.Context, old *takeover.Successor) {
	if err := old.Serve(ctx); err != nil {
		s.log.Warn("the old process may accept clients still", "pid", old.Peer.PID, "err", err)
		return
	}
	s.sockets.Own()
	s.sockets.Close() // what the old configuration listened on and this one does not
	s.notify("MAINPID="+strconv.Itoa(os.Getpid()), "READY=1")
	s.log.Info("taken over", "pid", old.Peer.PID)
	s.awaitTakeover(ctx)
	select {
	case <-old.Gone():
		s.log.Info("the old process has ended", "pid", old.Peer.PID)
	case <-ctx.Done():
	}
}

// awaitTakeover lets a successor ask for the listeners, until one has taken over or ctx ends.
func (s *sidecar) awaitTakeover(ctx context.Context) {
	log := s.log.With("part", "takeover")
	if !s.chosen {
		_ = os.MkdirAll(filepath.Dir(s.path), 0o755) // if that is impossible, listening tells
	}
	holder, err := takeover.Listen(ctx, s.path, s.self(), &host{sidecar: s}, s.mesh, log)
	switch {
	case err != nil && s.chosen:
		log.Error("this process can't be taken over from", "socket", s.path, "err", err)
	case err != nil:
		log.Info("this process can't be taken over from: there is no place for its socket", "proxy.takeover.socket", s.path, "err", err)
	default:
		s.background.Go(func() { // ends with ctx, or when another process has taken over
			if err := holder.Run(ctx); err != nil && ctx.Err() == nil {
				log.Error("this process can't be taken over from any more", "err", err)
			}
		})
	}
}

// host is what a successor asks of this process.
type host struct {
	*sidecar
	apart func() // ends the registration under this process's own name
}

// Offer implements takeover.Host.
func (h *host) Offer() ([]sockets.Given, error) {
	if why := h.proxy.Paused(); why != "" {
		return nil, errors.New(why)
	}
	return h.sockets.Taken(), nil
}

// Prepare implements takeover.Host: the proxy's name in the registry becomes the new process's. There must be no moment
// at which a handoff could forget the transactions of this one.
func (h *host) Prepare(ctx context.Context) {
	id := proxyID(h.cfg) + "." + strconv.Itoa(os.Getpid())
	var err error
	if h.apart, err = h.enrol(h.clients, id, ""); err != nil {
		h.log.Warn("not registered", "id", id, "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*h.cfg.HA.RPCTimeout)
	defer cancel()
	_, err = h.follower.Snapshots().Wait(ctx, func(snap store.Snapshot) bool {
		return slices.ContainsFunc(snap.Proxies, func(r ha.ProxyReport) bool { return r.ID == id })
	})
	if err != nil {
		h.log.Warn("registration not seen", "id", id, "err", err)
	}
	h.leave()
}

// Withdraw implements takeover.Host.
func (h *host) Withdraw() {
	if err := h.enter(); err != nil {
		h.log.Warn("not registered", "err", err)
	}
	if h.apart != nil {
		h.apart()
	}
}

// Yield implements takeover.Host.
func (h *host) Yield() {
	h.yielded.Store(true)
	h.sockets.Keep()
	h.proxy.Yield()
	h.api.Yield()
}

// onReplace starts a new process of the binary that is installed now, to take over from this one, at each SIGUSR2 until
// ctx ends.
func (s *sidecar) onReplace(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if s.yielded.Load() {
			s.log.Info("not replaced: another process serves already")
			continue
		}
		if err := s.replace(ctx); err != nil {
			s.log.Error("not replaced", "err", err)
		}
	}
}

// replace starts the new process and waits until it has taken over or ended.
func (s *sidecar) replace(ctx context.Context) error {
	program, err := exec.LookPath(os.Args[0])
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	command := exec.Command(program, "proxy", "--config", s.file, "--takeover") //nolint:gosec // this program, as it is now
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Start(); err != nil {
		return fmt.Errorf("start the new process: %w", err)
	}
	s.log.Info("new process started", "pid", command.Process.Pid, "program", program)
	go func() { // ends with the child, which may outlive this process
		if err := command.Wait(); err != nil && !s.yielded.Load() {
			s.log.Error("the new process has ended; this one goes on", "err", err)
		}
	}()
	return nil
}
