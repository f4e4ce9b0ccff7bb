package app

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"

	"github.com/walgate/walgate/proxy/sockets"
)

// notify tells systemd; it never fails the process. Once another process is the service, this one says nothing.
func (c *common) notify(lines ...string) {
	if c.yielded.Load() {
		return
	}
	if err := sockets.Notify(lines...); err != nil {
		c.log.Warn("systemd not told", "err", err)
	}
}

// takeInherited takes the sockets that systemd has opened for this process.
func (c *common) takeInherited() error {
	listeners, err := sockets.FromSystemd()
	c.sockets.Give(listeners...)
	return err
}

// listenAPI opens the API's listener, unless this process was given one for the address.
func (c *common) listenAPI(ctx context.Context) (net.Listener, error) {
	l, err := c.sockets.Listen(ctx, sockets.Spec{Network: "tcp", Address: c.cfg.API.Listen})
	if err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	return l, nil
}

// maxSocketPath is how many bytes the path of a unix socket may have (sun_path, with its zero byte, holds 108).
const maxSocketPath = 107

// defaultSocketMode is PostgreSQL's own: a password is asked for all the same.
const defaultSocketMode = 0o777

func (l ListenerConfig) fileMode() fs.FileMode {
	if l.Mode == "" {
		return defaultSocketMode
	}
	mode, _ := strconv.ParseUint(l.Mode, 8, 9) // Validate has checked it
	return fs.FileMode(mode)
}

// prefixes reads prefixes that Validate has checked.
func prefixes(texts []string) (list []netip.Prefix) {
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			list = append(list, prefix)
		}
	}
	return list
}

// listener checks what an address may have beside it.
func (k *check) listener(key string, l ListenerConfig) {
	if _, err := strconv.ParseUint(l.Mode, 8, 9); l.Mode != "" && err != nil {
		k.failf(key+".mode", "%q; allowed: an octal number such as 0770", l.Mode)
	}
	if l.Network == "unix" && len(sockets.Spec{Address: l.Listen}.Path()) > maxSocketPath {
		k.failf(key+".listen", "%q; allowed: a path of at most %d bytes", l.Listen, maxSocketPath)
	}
	if l.Backlog < 0 {
		k.failf(key+".backlog", "%d; allowed: 0 or more", l.Backlog)
	}
	for i, text := range l.ProxyFrom {
		if _, err := netip.ParsePrefix(text); err != nil {
			k.failf(key+".proxy_from["+strconv.Itoa(i)+"]", "%q; allowed: a prefix such as 10.0.0.0/8", text)
		}
	}
}
