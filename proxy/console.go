package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/walgate/walgate/proxy/admin"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication/boottime"
)

// console carries out what administrators say. It implements admin.Proxy.
type console struct {
	server   *Server
	names    []string // of the databases that are the console
	terminal *admin.Console

	commands  sync.Mutex  // held while a pause begins or ends
	shutdowns chan string // a SHUTDOWN that waits; room for the only one

	mu       sync.Mutex
	disabled map[string]struct{} // databases
	leaving  bool                // SHUTDOWN waits: nobody comes in any more
}

func newConsole(s *Server) (*console, error) {
	c := &console{server: s, names: s.cfg.Admin.Databases, shutdowns: make(chan string, 1), disabled: map[string]struct{}{}}
	var err error
	c.terminal, err = admin.New(admin.Config{
		Users: s.cfg.Admin.Users, StatsUsers: s.cfg.Admin.StatsUsers, StatsPeriod: s.cfg.Admin.StatsPeriod,
		WriteTimeout: s.cfg.LoginTimeout,
		Parameters: []session.Parameter{
			{Name: "application_name", Value: ""}, {Name: "client_encoding", Value: "UTF8"}, {Name: "DateStyle", Value: "ISO, MDY"},
			{Name: "integer_datetimes", Value: "on"}, {Name: "IntervalStyle", Value: "postgres"}, {Name: "server_encoding", Value: "UTF8"},
			{Name: "server_version", Value: consoleVersion}, {Name: "standard_conforming_strings", Value: "on"},
			{Name: "TimeZone", Value: "UTC"},
		},
	}, c, s.log)
	return c, err
}

// consoleVersion is the server_version of the console. Tools tell by it which SHOWs and columns to expect.
const consoleVersion = "1.25.0/walgate"

// serves reports whether the database is the console.
func (c *console) serves(database string) bool { return slices.Contains(c.names, database) }

// refuse tells why nobody new may come to the database.
func (c *console) refuse(database string) *session.Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return &session.Failure{
			SQLSTATE: "57P03", Message: "the proxy is shutting down", Hint: "Connect to another proxy, if there is one.",
		}
	}
	if _, off := c.disabled[database]; off {
		return &session.Failure{
			SQLSTATE: "57P03", Message: fmt.Sprintf("database %q is disabled", database),
			Detail: "An administrator lets no new clients in.", Hint: "ENABLE on the console ends that.",
		}
	}
	return nil
}

// Snapshot implements admin.Proxy.
func (c *console) Snapshot() *admin.Snapshot {
	s := c.server
	snap := &admin.Snapshot{
		Now: boottime.Now(), Wall: time.Now(), Version: s.cfg.Version, View: *s.view.Load(), Board: *s.broker.board.Load(),
		Grant: s.deps.Gate.Grant(), Limits: s.commonLimits(), Held: s.broker.heldNow(), Servers: s.pools.Servers(),
		Pools: s.Pools(), Meters: s.pools.Meters(), Failures: &s.failures, Routes: s.broker.routes.all(),
		Logins: s.door.logins.all(), MaxClients: s.tuned.Load().MaxClients, PoolLifetime: s.cfg.PoolLifetime,
		PoolMode: func(database, user string) session.PoolMode { return s.door.rules.find(database, user).Mode },
		PoolLimits: func(database, user string) (pool.Limits, int) {
			rule := s.door.rules.find(database, user)
			return rule.Servers, rule.DatabaseClients
		},
	}
	snap.Standings = s.broker.standings(snap.Now)
	since := s.sessions.since()
	lines := make(map[uint32]pool.Line, len(since))
	for _, d := range s.drivers {
		d.Lines(func(id uint32, line pool.Line) { lines[id] = line })
	}
	for _, info := range s.Sessions() {
		snap.Sessions = append(snap.Sessions, admin.Session{
			ID: info.ID, Client: info.Client, Console: c.serves(info.Database), Since: since[info.ID], Line: lines[info.ID], Info: info.Info,
		})
	}
	snap.PausedAll, snap.Paused = s.pools.Paused()
	c.mu.Lock()
	for name := range c.disabled {
		snap.Disabled = append(snap.Disabled, name)
	}
	c.mu.Unlock()
	slices.Sort(snap.Disabled)
	if s.deps.Settings != nil {
		snap.Settings = s.deps.Settings()
	}
	return snap
}

// Do implements admin.Proxy.
func (c *console) Do(ctx context.Context, cmd admin.Command) (notice string, err error) {
	if c.serves(cmd.Name) && cmd.Verb != admin.Set {
		return "", refused("0A000", "the console is not a database of the cluster", "")
	}
	switch cmd.Verb {
	case admin.Pause:
		return c.hint(cmd.Name), c.pause(ctx, cmd.Name)
	case admin.Resume:
		return "", c.resume(cmd.Name)
	case admin.Kill:
		return c.hint(cmd.Name), c.kill(cmd.Name)
	case admin.KillClient:
		return "", c.killClient(cmd.ID)
	case admin.Reconnect:
		c.server.pools.Reconnect(cmd.Name)
		return c.hint(cmd.Name), nil
	case admin.WaitClose:
		return "", c.server.pools.AwaitNone(ctx, func(v pool.ServerInfo) bool { return v.Outdated && of(cmd.Name, v.Database) })
	case admin.Disable:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.disabled[cmd.Name] = struct{}{}
		return "", nil
	case admin.Enable:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.disabled, cmd.Name)
		return "", nil
	default:
		return "", c.process(cmd)
	}
}

// of reports whether what is asked for by name (empty: everything) includes the database.
func of(name, database string) bool { return name == "" || name == database }

// hint warns of what may be a misspelt name.
func (c *console) hint(database string) string {
	if database == "" {
		return ""
	}
	for _, m := range c.server.pools.Meters() {
		if m.Database == database {
			return ""
		}
	}
	return fmt.Sprintf("nobody has used a database %q through this proxy yet", database)
}

func refused(sqlstate, message, hint string) error {
	return &admin.Refusal{Failure: session.Failure{SQLSTATE: sqlstate, Message: message, Hint: hint}}
}

// pause lets no session have a server, and returns when all are closed. If it is given up, nothing is paused.
func (c *console) pause(ctx context.Context, database string) error {
	all, some := c.server.pools.Paused()
	if all || slices.Contains(some, database) {
		return refused("55000", "already paused", "RESUME ends the pause.")
	}
	c.stop(database)
	err := c.server.pools.AwaitNone(ctx, func(v pool.ServerInfo) bool { return of(database, v.Database) })
	if err != nil {
		_ = c.resume(database) // it may have been resumed by another administrator
		return fmt.Errorf("wait for server connections to be released: %w", err)
	}
	return nil
}

// stop begins a pause; sessions that waited in the pools are held from now on.
func (c *console) stop(database string) {
	c.commands.Lock()
	defer c.commands.Unlock()
	c.server.broker.round(c.server.pools.Pause(database))
}

func (c *console) resume(database string) error {
	c.commands.Lock()
	defer c.commands.Unlock()
	if !c.server.pools.Resume(database) {
		if database == "" {
			return refused("55000", "the proxy is not paused", "SHOW STATE lists paused databases.")
		}
		return refused("55000", fmt.Sprintf("database %q is not paused", database), "SHOW STATE lists paused databases.")
	}
	c.server.broker.round(nil)
	return nil
}

// kill ends all sessions and server connections, and pauses.
func (c *console) kill(database string) error {
	if all, _ := c.server.pools.Paused(); all {
		return refused("55000", "already paused", "RESUME ends the pause.")
	}
	c.stop(database)
	for _, s := range c.server.Sessions() {
		if of(database, s.Database) && !c.serves(s.Database) {
			_ = c.killClient(s.ID) // it may have left by itself
		}
	}
	c.server.pools.Drop(database)
	return nil
}

func (c *console) killClient(id uint32) error {
	for _, d := range c.server.drivers {
		if d.KillClient(id, session.Failure{
			SQLSTATE: "57P01", Message: "terminating connection due to administrator command",
			Detail: "An administrator ended it on the proxy's console.",
		}) {
			return nil
		}
	}
	return refused("08003", fmt.Sprintf("there is no client %d", id), "SHOW CLIENTS lists them.")
}

// process carries out the commands that concern the whole process.
func (c *console) process(cmd admin.Command) error {
	deps := &c.server.deps
	var err error
	switch {
	case cmd.Verb == admin.Reload && deps.Reload != nil:
		err = deps.Reload()
	case cmd.Verb == admin.Set && deps.Set != nil:
		err = deps.Set(cmd.Name, cmd.Value)
	case cmd.Verb == admin.Shutdown && deps.Stop != nil:
		return c.shutdown(cmd.Name)
	default:
		return refused("0A000", "this process can't do that", "A node is stopped with its service; see docs/console.md.")
	}
	if err != nil {
		return refused("22023", err.Error(), "Nothing was changed.")
	}
	return nil
}

// shutdown ends the process, at once or when servers or clients are no longer in use. Nothing listens in between: whoever
// comes goes to another process.
func (c *console) shutdown(mode string) error {
	if mode == "" {
		c.server.deps.Stop()
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return refused("55000", "the proxy is shutting down already", "SHUTDOWN ends it now.")
	}
	c.leaving = true
	c.shutdowns <- mode
	close(c.server.closing)
	return nil
}

// run carries out a SHUTDOWN that waits, until ctx ends.
func (c *console) run(ctx context.Context) {
	var mode string
	select {
	case <-ctx.Done():
		return
	case mode = <-c.shutdowns:
	}
	log := c.server.log.With("mode", mode)
	log.Info("shutting down: nobody new is let in", "clients", c.server.sessions.count())
	var err error
	if mode == admin.WaitForServers {
		if err = c.pause(ctx, ""); errors.As(err, new(*admin.Refusal)) { // it is paused already: every server is being released
			err = c.server.pools.AwaitNone(ctx, func(pool.ServerInfo) bool { return true })
		}
	} else {
		err = c.server.sessions.awaitDrained(ctx)
	}
	if err == nil {
		log.Info("shutting down: nothing is in use any more")
		c.server.deps.Stop()
	}
}

// disabledCount counts the databases that let no new clients in.
func (c *console) disabledCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.disabled)
}

// isLeaving reports whether a SHUTDOWN waits.
func (c *console) isLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}
