package admin

import (
	"runtime"
	"slices"
	"strings"

	"github.com/walgate/walgate/proxy/session"
)

// view is one SHOW: its columns, and what fills it.
type view struct {
	columns []column
	fill    func(c *Console, s *Snapshot, t *table)
}

// views are the SHOWs by name. Where PgBouncer (1.25, src/admin.c) has a SHOW of that name, its columns come first, with
// its names, types and order.
var views = map[string]view{
	"pools": {columns("ssiiiiiiiiiiiiissi", "database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req",
		"cl_waiting_cancel_req", "sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login",
		"maxwait", "maxwait_us", "pool_mode", "load_balance_hosts", "cl_held"), fillPools},
	"node_pools": {columns("sslssiiiii", "node", "role", "epoch", "database", "user", "sv_active", "sv_idle", "sv_login", "cl_waiting",
		"close_needed"), fillNodePools},
	"clients": {socketColumns("sssil", "node", "pinned", "target", "in_transaction", "turns"), fillClients},
	"servers": {socketColumns("ssl", "node", "role", "epoch"), fillServers},
	"databases": {columns("ssissiiiissiiiiii", "name", "host", "port", "database", "force_user", "pool_size", "min_pool_size",
		"reserve_pool_size", "server_lifetime", "pool_mode", "load_balance_hosts", "max_connections", "current_connections",
		"max_client_connections", "current_client_connections", "paused", "disabled"), fillDatabases},
	"users": {columns("ssssiiii", "name", "pool_size", "reserve_pool_size", "pool_mode", "max_user_connections",
		"current_connections", "max_user_client_connections", "current_client_connections"), fillUsers},
	"nodes": {columns("sssisllissss", "node", "role", "host", "port", "state", "lag_bytes", "lag_ms", "reads", "why", "received_lsn",
		"replayed_lsn", "timeline"), fillNodes},
	"routes":         {columns("sssl", "node", "role", "why", "count"), fillRoutes},
	"prepared":       {columns("ssssil", "type", "id", "database", "user", "statements", "turns"), fillPrepared},
	"lists":          {columns("si", "list", "items"), fillLists},
	"config":         {columns("ssss", "key", "value", "default", "changeable"), fillConfig},
	"version":        {columns("s", "version"), fillVersion},
	"mem":            {columns("siiii", "name", "size", "used", "free", "memtotal"), fillMem},
	"state":          {columns("ss", "key", "value"), fillState},
	"view":           {columns("ss", "key", "value"), fillView},
	"errors":         {columns("sssssl", "node", "role", "database", "user", "sqlstate", "count"), fillErrors},
	"stats":          {allStats(), fillStats},
	"stats_totals":   {append(columns("s", "database"), statColumns("", "totals", statNames[:])...), fillStatsTotals},
	"stats_averages": {append(columns("s", "database"), statColumns("", "averages", statNames[:statErrors])...), fillStatsAverages},
	"totals":         {columns("sn", "name", "value"), fillTotals},
	// What PgBouncer shows of what walgate has not.
	"dns_hosts":  {columns("sls", "hostname", "ttl", "addrs"), nil},
	"dns_zones":  {columns("sli", "zonename", "serial", "count"), nil},
	"peers":      {columns("isii", "peer_id", "host", "port", "pool_size"), nil},
	"peer_pools": {columns("iiiii", "peer_id", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active_cancel", "sv_login"), nil},
}

// fillLists counts what there is.
func fillLists(_ *Console, s *Snapshot, t *table) {
	login, pools := 0, map[owner]bool{}
	for _, c := range s.Sessions {
		if c.State == session.StateLogin {
			login++
		}
	}
	for _, p := range s.Pools {
		pools[owner{p.Database, p.User}] = true
	}
	t.add("databases", len(s.databases()))
	t.add("users", len(s.users()))
	t.add("peers", 0)
	t.add("pools", len(pools))
	t.add("peer_pools", 0)
	t.add("free_clients", max(s.MaxClients-len(s.Sessions), 0))
	t.add("used_clients", len(s.Sessions))
	t.add("login_clients", login)
	t.add("free_servers", 0)
	t.add("used_servers", len(s.Servers))
	for _, name := range []string{"dns_names", "dns_zones", "dns_queries", "dns_pending"} {
		t.add(name, 0)
	}
	t.add("node_pools", len(s.Pools))
	t.add("held_clients", s.Held)
	t.add("nodes", len(s.View.Members))
}

// maxClientConn is PgBouncer's name of proxy.max_clients, which exporters ask for.
const maxClientConn = "max_client_conn"

func fillConfig(_ *Console, s *Snapshot, t *table) {
	yes := map[bool]string{true: "yes", false: "no"}
	for _, e := range s.Settings {
		t.add(e.Key, e.Value, e.Default, yes[e.Changeable])
		if e.Key == "proxy.max_clients" {
			t.add(maxClientConn, e.Value, e.Default, yes[e.Changeable])
		}
	}
}

func fillVersion(_ *Console, s *Snapshot, t *table) { t.add("walgate " + s.Version) }

// fillMem tells what the Go runtime has of the system.
func fillMem(_ *Console, s *Snapshot, t *table) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	line := func(name string, size, used, free uint64) {
		const most = 1<<31 - 1
		t.add(name, int64(min(size, most)), int64(min(used, most)), int64(min(free, most)), int64(min(used+free, most)))
	}
	kb := func(n uint64) uint64 { return n / 1024 }
	line("heap_kb", 0, kb(m.HeapInuse), kb(m.HeapIdle-m.HeapReleased))
	line("stacks_kb", 0, kb(m.StackInuse), 0)
	line("runtime_kb", 0, kb(m.Sys-min(m.Sys, m.HeapSys+m.StackSys)), 0)
	line("goroutines", 0, uint64(runtime.NumGoroutine()), 0)
	line("sessions", 0, uint64(len(s.Sessions)), 0)
	line("servers", 0, uint64(len(s.Servers)), 0)
}

func fillState(_ *Console, s *Snapshot, t *table) {
	yes := map[bool]string{true: "yes", false: "no"}
	t.add("active", yes[!s.PausedAll])
	t.add("paused", yes[s.PausedAll])
	t.add("suspended", "no")
	t.add("paused_databases", strings.Join(s.Paused, ","))
	t.add("disabled_databases", strings.Join(s.Disabled, ","))
	t.add("writable", yes[s.View.Writable() && s.Grant.Epoch == s.View.Epoch && s.Grant.Deadline > s.Now])
}

// fillErrors lists the errors by SQLSTATE.
func fillErrors(_ *Console, s *Snapshot, t *table) {
	for _, m := range s.sortedMeters() {
		m.Errors.Each(func(code string, n uint64) {
			t.add(string(m.Node), m.Role.String(), m.Database, m.User, orOther(code), n)
		})
	}
	s.Failures.Each(func(code string, n uint64) { t.add("", "walgate", "", "", orOther(code), n) })
}

func orOther(code string) string {
	if code == "" {
		return "other"
	}
	return code
}

// databases are the names of all that are known, sorted.
func (s *Snapshot) databases() []string {
	seen := map[string]bool{}
	for _, m := range s.Meters {
		seen[m.Database] = true
	}
	for _, p := range s.Pools {
		seen[p.Database] = true
	}
	for _, c := range s.Sessions {
		seen[c.Database] = !c.Console && (seen[c.Database] || c.State != session.StateLogin)
	}
	for _, name := range append(slices.Clone(s.Paused), s.Disabled...) {
		seen[name] = true
	}
	return sorted(seen)
}

// users are the names of all that are known, sorted.
func (s *Snapshot) users() []string {
	seen := map[string]bool{}
	for _, m := range s.Meters {
		seen[m.User] = true
	}
	for _, c := range s.Sessions {
		seen[c.User] = seen[c.User] || c.State != session.StateLogin
	}
	return sorted(seen)
}

func sorted(seen map[string]bool) []string {
	var names []string
	for name, known := range seen {
		if known && name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
