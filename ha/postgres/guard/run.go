package guard

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readyFD is where a guard that was spawned reports that it listens.
const readyFD = 3

// options are the guard's arguments.
type options struct {
	socket string
	lock   string
	linger time.Duration
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("guard", flag.ContinueOnError)
	flags.StringVar(&o.socket, "socket", "", "unix socket to listen on")
	flags.StringVar(&o.lock, "lock", "", "file that only one guard of the instance can lock")
	flags.DurationVar(&o.linger, "linger", 0, "how long to stay without postmaster and agent")
	if err := flags.Parse(args); err != nil {
		return o, fmt.Errorf("read arguments of the guard: %w", err)
	}
	if o.socket == "" || o.lock == "" || o.linger <= 0 || flags.NArg() > 0 {
		return o, errors.New("the guard is started by walgate node, not by people")
	}
	return o, nil
}

// Run is the guard process: it returns when it was told to quit, or when it has had neither postmaster nor agent for
// the time given. It does not end while a postmaster runs, whatever ctx says and whatever signal arrives, since its end
// is the end of the instance.
func Run(ctx context.Context, args []string) error {
	// The postmaster's death signal belongs to the thread that forked it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	lock, err := os.OpenFile(o.lock, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another guard holds %s: %w", o.lock, err)
	}
	if err := BecomeSubreaper(); err != nil {
		return err
	}
	// Caught and dropped, not ignored: the postmaster would inherit that.
	deaf := make(chan os.Signal, 1)
	signal.Notify(deaf, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE, unix.SIGQUIT, unix.SIGTSTP)
	defer signal.Stop(deaf)
	if err := os.Remove(o.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(o.socket, 0o600); err != nil {
		return errors.Join(fmt.Errorf("protect socket: %w", err), listener.Close())
	}
	protectFromOOM()
	reportReady()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("guard", os.Getpid())
	return serve(ctx, log, o, listener)
}

// protectFromOOM asks the kernel to kill others first. PostgreSQL's children undo it by PG_OOM_ADJUST_FILE. Only root
// may; without it the guard is as any process.
func protectFromOOM() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0) }

// reportReady tells who spawned the guard that it listens.
func reportReady() {
	ready := os.NewFile(readyFD, "ready")
	if ready == nil {
		return
	}
	_, _ = ready.Write([]byte("ready\n")) // nobody waits when a person started it
	_ = ready.Close()
}

// serve runs the loop and its helpers, and waits for them.
func serve(ctx context.Context, log *slog.Logger, o options, listener *net.UnixListener) error {
	deadline, err := newTimer()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s := &server{
		log: log, linger: o.linger, timer: deadline, in: make(chan message), done: make(chan struct{}),
		links: make(map[*link]struct{}), children: make(chan os.Signal, 1),
	}
	signal.Notify(s.children, unix.SIGCHLD)
	defer signal.Stop(s.children)
	var helpers sync.WaitGroup
	helpers.Go(deadline.run)
	helpers.Go(func() { s.accept(listener, &helpers) })
	log.Info("guard stands", "socket", o.socket)
	s.loop(ctx)
	close(s.done)
	_ = deadline.file.Close()
	_ = listener.Close()
	for l := range s.links {
		_ = l.conn.Close()
		close(l.out)
	}
	helpers.Wait()
	log.Info("guard leaves")
	return nil
}
