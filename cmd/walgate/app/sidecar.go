package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// sidecar is a process with a proxy and without a PostgreSQL of its own.
type sidecar struct {
	*common
	path     string // of the takeover socket; chosen is false if it is the default
	chosen   bool
	takeOver bool // from the process that runs, if there is one
	clients  context.Context
	leave    func() // ends the registration
}

// RunProxy runs a stateless proxy of the cluster until ctx ends: it follows the store and has no PostgreSQL of its own.
// file is read again at SIGHUP. With takeOver it takes the listeners of the process that runs with the same
// configuration; without such a process it starts as usual.
func RunProxy(ctx context.Context, cfg Config, file string, takeOver bool, stderr io.Writer) error {
	if err := cfg.Validate(KindProxy); err != nil {
		return err
	}
	path, chosen := takeoverSocket(cfg)
	cfg.Node = NodeConfig{Host: cfg.Node.Host} // a file that a node shares with its sidecar does not make it a node
	c, err := newCommon(cfg, file, stderr)
	if err != nil {
		return err
	}
	defer func() { _ = c.store.Close() }() // nothing is lost with it
	defer c.mesh.Close()
	if err := c.takeInherited(); err != nil {
		return err
	}
	s := &sidecar{common: c, path: path, chosen: chosen, takeOver: takeOver}
	return s.run(ctx)
}

// run starts everything, and takes it down in order: the clients first.
func (s *sidecar) run(ctx context.Context) error {
	hangup, usr2 := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	signal.Notify(usr2, syscall.SIGUSR2)
	defer signal.Stop(hangup)
	defer signal.Stop(usr2)
	background, stopAll := context.WithCancel(context.WithoutCancel(ctx))
	var stopClients context.CancelFunc
	s.clients, stopClients = context.WithCancel(background)
	err := s.start(ctx, background)
	if err == nil {
		s.onHangup(background, hangup, s.file)
		s.background.Go(func() { s.onReplace(background, usr2) })
		s.log.Info("proxy runs", "cluster", s.cfg.Cluster.Name, "listen", s.cfg.Proxy.Listen, "api", s.cfg.API.Listen)
		select {
		case <-ctx.Done():
		case <-s.stopped:
		case err = <-s.failed:
			err = fmt.Errorf("proxy: %w", err)
		}
		s.log.Info("proxy stops")
		s.notify("STOPPING=1")
	}
	stopClients()
	s.common.clients.Wait()
	stopAll()
	s.background.Wait()
	return err
}

// start opens the listeners and lets clients in.
func (s *sidecar) start(ctx, background context.Context) error {
	if s.takeOver {
		if taken, err := s.succeed(ctx, background); taken || err != nil {
			return err
		}
	}
	if err := errors.Join(s.checkPorts(), s.buildAPI(ctx, nil)); err != nil {
		return err
	}
	s.serve(background)
	if err := s.enter(); err != nil {
		return err
	}
	s.serveProxy(s.clients, func() { s.awaitTakeover(background) })
	return nil
}

// enter registers this process under the proxy's name.
func (s *sidecar) enter() (err error) {
	s.leave, err = s.enrol(s.clients, proxyID(s.cfg), s.cfg.AdvertiseAPI())
	return err
}
