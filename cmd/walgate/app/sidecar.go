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

// RunProxy runs a stateless proxy of the cluster until ctx ends: it follows the store and has no PostgreSQL of its own.
// file is read again at SIGHUP.
func RunProxy(ctx context.Context, cfg Config, file string, stderr io.Writer) error {
	if err := cfg.Validate(KindProxy); err != nil {
		return err
	}
	cfg.Node = NodeConfig{Host: cfg.Node.Host} // a file that a node shares with its sidecar does not make it a node
	c, err := newCommon(cfg, file, stderr)
	if err != nil {
		return err
	}
	defer func() { _ = c.store.Close() }() // nothing is lost with it
	if err := errors.Join(c.takeInherited(), c.checkPorts(), c.buildAPI(ctx, nil)); err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	background, stopAll := context.WithCancel(context.WithoutCancel(ctx))
	clients, stopClients := context.WithCancel(background)
	c.serve(background)
	c.serveProxy(clients)
	c.onHangup(background, hangup, file)
	c.log.Info("proxy runs", "cluster", cfg.Cluster.Name, "listen", cfg.Proxy.Listen, "api", cfg.API.Listen)
	select {
	case <-ctx.Done():
		err = nil
	case <-c.stopped:
	case err = <-c.failed:
		err = fmt.Errorf("proxy: %w", err)
	}
	c.log.Info("proxy stops")
	c.notify("STOPPING=1")
	stopClients()
	c.clients.Wait()
	stopAll()
	c.background.Wait()
	return err
}
