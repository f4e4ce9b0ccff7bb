package app

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/session"
)

// live are the keys that change while the process runs, with RELOAD or SET; one that ends with a dot stands for all below.
var live = append([]string{"log.level", "postgres.parameters", "proxy.tls.", "proxy.server_tls.", "proxy.timeouts.", "proxy.max_clients",
	"proxy.limits.logins", "proxy.limits.address_logins", "proxy.held_sessions", "proxy.held_bytes", "proxy.shutdown_timeout"}, accessKeys...)

// accessKeys are those of the live keys that say who may log in how.
var accessKeys = []string{"proxy.auth.hba", "proxy.auth.hba_file", "proxy.auth.ident_file", "proxy.auth.user_file"}

// aliases are PgBouncer's names of live keys, whose times are in seconds.
var aliases = map[string]string{
	"max_client_conn": "proxy.max_clients", "query_timeout": "proxy.timeouts.query", "query_wait_timeout": "proxy.timeouts.query_wait",
	"query_wait_notify": "proxy.timeouts.query_wait_notify", "client_idle_timeout": "proxy.timeouts.client_idle",
	"idle_transaction_timeout": "proxy.timeouts.idle_in_transaction", "transaction_timeout": "proxy.timeouts.transaction",
	"log_level": "log.level",
}

func isLive(key string) bool {
	return slices.ContainsFunc(live, func(l string) bool { return key == l || strings.HasSuffix(l, ".") && strings.HasPrefix(key, l) })
}

// proxyTunable is what a running proxy can take over of a configuration.
func proxyTunable(c Config) proxy.Tunable {
	p := &c.Proxy
	return proxy.Tunable{
		MaxClients: p.MaxClients, MaxLogins: p.Limits.Logins, MaxAddressLogins: p.Limits.AddressLogins, MaxHeld: p.HeldSessions,
		MaxHeldBytes: int64(p.HeldBytes), ShutdownGrace: p.ShutdownTimeout, Timeouts: session.Timeouts(p.Timeouts),
	}
}

// set changes one setting until the next RELOAD or the end of the process.
func (c *common) set(key, value string) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	fresh := *c.applied.Load()
	if name, ok := aliases[key]; ok {
		key = name
		if _, err := strconv.ParseUint(value, 10, 31); err == nil && strings.HasPrefix(key, "proxy.timeouts.") {
			value += "s"
		}
	}
	if !isLive(key) {
		return fmt.Errorf("%q can't be set while the process runs; what can: %s", key, strings.Join(settable(), ", "))
	}
	for _, f := range leaves("", reflect.ValueOf(&fresh).Elem()) {
		if f.path == key {
			if err := f.set(value); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if err := fresh.Validate(c.kind()); err != nil {
				return err
			}
			return c.adopt(fresh)
		}
	}
	return fmt.Errorf("there is no key %q; what can be set: %s", key, strings.Join(settable(), ", "))
}

// settable are the keys that can be set on the console.
func settable() (keys []string) {
	var c Config
	for _, f := range leaves("", reflect.ValueOf(&c).Elem()) {
		if isLive(f.path) {
			keys = append(keys, f.path)
		}
	}
	return keys
}

// kind is what this process is.
func (c *common) kind() Kind {
	if c.cfg.Node.Name == "" {
		return KindProxy
	}
	return KindNode
}

// adopt makes what can change as it is in fresh, which is valid. Called with reloading held.
func (c *common) adopt(fresh Config) error {
	// The files may have changed under the same names.
	tlsErr := c.reloadTLS(fresh.Proxy.TLS.leg(), fresh.Proxy.ServerTLS.leg())
	access, accessErr := ReadAccess(fresh.Proxy.Auth) // if one of them is wrong, all stay as they were
	if accessErr == nil && c.proxy != nil {
		c.proxy.SetAccess(access)
	}
	var tuneErr error
	if c.proxy != nil {
		tuneErr = c.proxy.Tune(proxyTunable(fresh))
	}
	now := *c.applied.Load()
	for _, key := range Changed(now, fresh) {
		switch {
		case key == "log.level":
			c.level.Set(parseLevel(fresh.Log.Level))
		case key == "postgres.parameters":
			c.parameters.Publish(fresh.Postgres.Parameters)
		case strings.HasPrefix(key, "proxy.tls.") || strings.HasPrefix(key, "proxy.server_tls."):
			if tlsErr != nil {
				continue // which is told below
			}
		case slices.Contains(accessKeys, key):
			if accessErr != nil {
				continue // as above
			}
		case strings.HasPrefix(key, "proxy.") && isLive(key):
			if tuneErr != nil {
				continue // as above
			}
		default:
			c.log.Warn("configuration changed, a restart is needed", "key", key)
			continue
		}
		apply(&now, &fresh, key)
		c.log.Info("configuration applied", "key", key)
	}
	c.applied.Store(&now)
	return errors.Join(tlsErr, accessErr, tuneErr)
}
