package proxy

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy/session"
)

// maxCodes bounds the SQLSTATEs that are counted by name: users can raise any.
const maxCodes = 200

// metrics is what Prometheus sees of a Server: gauges are read when it asks, the rest are counters.
type metrics struct {
	server   *Server
	errors   *prometheus.CounterVec
	unopened *prometheus.CounterVec

	sessions, held, waiting, turnedAway *prometheus.Desc
	connections, turns, bytes, logins   *prometheus.Desc
	opened, evicted, cancels, inLine    *prometheus.Desc
	handshakes, calls, ejections        *prometheus.Desc
	meters                              *meterMetrics

	mu    sync.Mutex
	codes map[string]struct{}
}

func newMetrics(s *Server) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("walgate_proxy_"+name, help, labels, nil)
	}
	return &metrics{
		server: s, meters: newMeterMetrics(s), codes: map[string]struct{}{},
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walgate_proxy_errors_total", Help: "Errors of servers, seen by clients or cured, and refused logins.",
		}, []string{"sqlstate"}),
		unopened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walgate_proxy_connect_failures_total", Help: "Server connections that could not be opened.",
		}, []string{"node"}),
		sessions:    desc("sessions", "Client sessions by state.", "state"),
		held:        desc("held_sessions", "Sessions that wait because there is no server for them in the view."),
		waiting:     desc("waiting_sessions", "Sessions that wait for a server connection of a pool.", "node", "role"),
		turnedAway:  desc("held_refused_total", "Sessions refused because too many were held."),
		connections: desc("server_connections", "Server connections.", "node", "role", "state"),
		turns:       desc("turns_total", "Turns answered by servers.", "role"),
		bytes:       desc("bytes_total", "Bytes read.", "from"),
		logins:      desc("login_failures_total", "Logins that did not succeed."),
		opened:      desc("connections_opened_total", "Server connections opened."),
		evicted:     desc("connections_evicted_total", "Server connections closed to make room for another pool of the node.", "node"),
		ejections:   desc("ejections_total", "How often a node got no reads for a while.", "node", "cause"),
		inLine:      desc("pools_in_line", "Pools that wait for room below a limit that they share with others of the node.", "node"),
		cancels:     desc("cancels_total", "Cancel requests that servers have dealt with, or that were dropped.", "fate"),
		handshakes:  desc("tls_handshakes_total", "TLS handshakes with clients.", "result"),
		calls:       desc("system_calls_total", "System calls on sockets made by epoll loops.", "call"),
	}
}

// failed counts an error by its SQLSTATE.
func (m *metrics) failed(sqlstate []byte) {
	m.mu.Lock()
	code := string(sqlstate)
	if _, known := m.codes[code]; !known {
		if len(m.codes) >= maxCodes {
			code = "other"
		} else {
			m.codes[code] = struct{}{}
		}
	}
	m.mu.Unlock()
	m.errors.WithLabelValues(code).Inc()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.errors.Describe(out)
	m.unopened.Describe(out)
	m.meters.describe(out)
	for _, d := range []*prometheus.Desc{
		m.sessions, m.held, m.waiting, m.turnedAway, m.connections, m.turns, m.bytes, m.logins, m.handshakes,
		m.opened, m.evicted, m.inLine, m.cancels, m.calls, m.ejections,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.errors.Collect(out)
	m.unopened.Collect(out)
	m.meters.collect(out)
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	var states [session.StateClosing + 1]int
	var n session.Counts
	for _, d := range m.server.drivers {
		d.Sessions(func(_ uint32, _ string, info session.Info) { states[info.State]++ })
		n = n.Plus(d.Counts())
	}
	for state, name := range []string{"login", "idle", "waiting", "active", "closing"} {
		gauge(m.sessions, states[state], name)
	}
	gauge(m.held, m.server.broker.heldNow())
	counter(m.turnedAway, m.server.broker.refusedSoFar())
	m.pools(gauge)
	counter(m.turns, n.PrimaryTurns, "primary")
	counter(m.turns, n.StandbyTurns, "standby")
	counter(m.bytes, n.FromClients, "clients")
	counter(m.bytes, n.FromServers, "servers")
	counter(m.logins, n.LoginFailures)
	counter(m.calls, n.Calls.Reads, "read")
	counter(m.calls, n.Calls.Writes, "write")
	counter(m.calls, n.Calls.Waits, "wait")
	m.limits(gauge, counter)
	counter(m.handshakes, m.server.tls.Done.Load(), "done")
	counter(m.handshakes, m.server.tls.Failed.Load(), "failed")
}

// limits tells how far the limits that pools share bind.
func (m *metrics) limits(gauge func(*prometheus.Desc, int, ...string), counter func(*prometheus.Desc, int64, ...string)) {
	totals := m.server.pools.Totals()
	counter(m.opened, totals.Opened)
	counter(m.cancels, totals.CancelsSent, "sent")
	counter(m.cancels, totals.CancelsDropped, "dropped")
	for _, st := range m.server.pools.NodeStats() {
		gauge(m.inLine, st.InLine, string(st.Node))
		counter(m.evicted, st.Evicted, string(st.Node))
		counter(m.ejections, int64(st.ConnectEjections), string(st.Node), "connect")
		counter(m.ejections, int64(st.TurnEjections), string(st.Node), "turn")
	}
}

// pools sums the pools by node and role.
func (m *metrics) pools(gauge func(d *prometheus.Desc, n int, labels ...string)) {
	type place struct{ node, role string }
	type sum struct{ used, idle, opening, waiting int }
	sums := map[place]sum{}
	for _, st := range m.server.pools.Stats() {
		at := place{string(st.Node), st.Role.String()}
		n := sums[at]
		n.used += st.Used
		n.idle += st.Idle
		n.opening += st.Opening
		n.waiting += st.Waiting
		sums[at] = n
	}
	for at, n := range sums {
		gauge(m.connections, n.used, at.node, at.role, "used")
		gauge(m.connections, n.idle, at.node, at.role, "idle")
		gauge(m.connections, n.opening, at.node, at.role, "opening")
		gauge(m.waiting, n.waiting, at.node, at.role)
	}
}
