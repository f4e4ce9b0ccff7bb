package admin

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// socketColumns are those of SHOW CLIENTS and SHOW SERVERS, and our own behind them.
func socketColumns(types string, own ...string) []column {
	return append(columns("ssssssisissiiississii", "type", "user", "database", "replication", "state", "addr", "port", "local_addr",
		"local_port", "connect_time", "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid", "tls",
		"application_name", "prepared_statements", "id"), columns(types, own...)...)
}

// timeLayout is how PgBouncer writes times.
const timeLayout = "2006-01-02 15:04:05 MST"

func (s *Snapshot) timeOf(at replication.Instant) any {
	if at == 0 {
		return nil
	}
	return s.Wall.Add(-s.Now.Sub(at)).UTC().Format(timeLayout)
}

func fillClients(_ *Console, s *Snapshot, t *table) {
	for _, c := range s.Sessions {
		host, port := hostPort(c.Client)
		var wait time.Duration
		if c.WaitingSince != 0 {
			wait = s.Now.Sub(c.WaitingSince)
		}
		seconds, micros := split(wait)
		link, node := "", ""
		if c.Server != nil {
			link, node = pointer('S', c.Server.ID), string(c.Server.Node)
		}
		t.add("C", c.User, c.Database, c.Line.Replication, clientState(c.State), host, port, local(c.Line), c.Line.LocalPort, s.timeOf(c.Since), s.timeOf(c.LastEvent),
			seconds, micros, 0, pointer('C', uint64(c.ID)), link, c.Line.ProcessID, c.Line.TLS, c.Application, c.Statements, c.ID,
			node, c.Pinned, c.Target.String(), c.InTransaction, c.Turns)
	}
}

// clientState is PgBouncer's word.
func clientState(state session.State) string {
	switch state {
	case session.StateLogin:
		return "login"
	case session.StateIdle:
		return "idle"
	case session.StateWaiting:
		return "waiting"
	case session.StateActive:
		return "active"
	default:
		return "closing"
	}
}

func (s *Snapshot) sortedServers() []pool.ServerInfo {
	return slices.SortedFunc(slices.Values(s.Servers), func(a, b pool.ServerInfo) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.User, b.User), cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
	})
}

func fillServers(_ *Console, s *Snapshot, t *table) {
	clients := map[uint64]Session{}
	for _, c := range s.Sessions {
		if c.Server != nil {
			clients[c.Server.ID] = c
		}
	}
	for _, v := range s.sortedServers() {
		link, application := "", ""
		if c, ok := clients[v.ID]; ok && v.ID != 0 {
			link, application = pointer('C', uint64(c.ID)), c.Application
		}
		var statements, connected any
		if v.Statements >= 0 {
			statements = v.Statements
		}
		if v.State != "new" {
			connected = s.Wall.Add(-v.Age).UTC().Format(timeLayout)
		}
		t.add("S", v.User, v.Database, "none", v.State, v.Address.Host, v.Address.Port, local(v.Line), v.Line.LocalPort, connected, nil, 0, 0, v.Outdated,
			pointer('S', v.ID), link, v.ProcessID, v.Line.TLS, application, statements, v.ID,
			string(v.Node), v.Role.String(), uint64(v.Epoch))
	}
}

// local is the address of walgate's end; NULL if it is not known.
func local(l pool.Line) any {
	if l.Local == "" {
		return nil
	}
	return l.Local
}

// pointer stands for PgBouncer's address of an object: something to join ptr and link by.
func pointer(kind byte, id uint64) string { return fmt.Sprintf("%c%d", kind, id) }

// hostPort splits a client's address; that of a unix socket is "unix".
func hostPort(address string) (string, int) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "unix", 0
	}
	n, _ := strconv.Atoi(port) // 0 if it is none
	return host, n
}
