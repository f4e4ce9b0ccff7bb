package proxy

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

// meterMetrics is what Prometheus sees of the meters: one set of series for each node, role, database and user, in the
// order in which they were first used, up to a limit; all others are summed under the name other.
type meterMetrics struct {
	server *Server
	limit  int

	wait, turn, transaction               *prometheus.Desc
	bytes, statements, retries            *prometheus.Desc
	cancels, discards, errors             *prometheus.Desc
	connections, waiting, most            *prometheus.Desc
	clients, maxClients                   *prometheus.Desc
	routes, logins, own, paused, disabled *prometheus.Desc
}

// otherPool labels the sum of the pools that have no series of their own.
const otherPool = "other"

func newMeterMetrics(s *Server) *meterMetrics {
	pools := []string{"node", "role", "database", "user"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("walgate_proxy_"+name, help, labels, nil)
	}
	of := func(name, help string, more ...string) *prometheus.Desc {
		return desc("pool_"+name, help, append(slices.Clone(pools), more...)...)
	}
	return &meterMetrics{
		server: s, limit: s.cfg.MetricPools,
		wait:        of("wait_seconds", "Time from the wish for a server connection to its grant."),
		turn:        of("turn_seconds", "Time from the first byte of a turn sent to the server to ReadyForQuery."),
		transaction: of("transaction_seconds", "Time from the first byte sent to the server to the end of the transaction."),
		bytes:       of("bytes_total", "Bytes exchanged with servers.", "direction"),
		statements:  of("statements_total", "Parse and Bind messages, by who sent them.", "kind"),
		retries:     of("retries_total", "Turns that this server could not serve and that ran again elsewhere."),
		cancels:     of("cancels_total", "Cancel requests for servers."),
		discards:    of("discards_total", "Server connections that sessions gave back to be closed."),
		errors:      of("errors_total", "Errors of servers that were passed on to clients.", "sqlstate"),
		connections: of("connections", "Server connections.", "state"),
		waiting:     of("waiting_sessions", "Sessions in the queue for a server connection."),
		most:        of("max_connections", "Limit of the pool's server connections, without the reserve."),
		clients:     desc("clients", "Clients that are logged in.", "database", "user"),
		maxClients:  desc("max_clients", "Limit of client connections."),
		routes:      desc("routes_total", "Choices of a server for a turn, by reason; role held: none for now; refused: an error.", "node", "role", "reason"),
		logins:      desc("logins_total", "Logins that succeeded."),
		own:         desc("own_errors_total", "Errors that walgate raised itself.", "sqlstate"),
		paused:      desc("paused", "1 if an administrator has paused everything, and the number of databases paused by name.", "scope"),
		disabled:    desc("disabled_databases", "Databases that let no new clients in."),
	}
}

func (m *meterMetrics) describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.wait, m.turn, m.transaction, m.bytes, m.statements, m.retries, m.cancels, m.discards, m.errors, m.connections, m.waiting, m.most,
		m.clients, m.maxClients,
		m.routes, m.logins, m.own, m.paused, m.disabled,
	} {
		out <- d
	}
}

// poolSums are the numbers of the meters that share a set of series.
type poolSums struct {
	wait, turn, transaction                session.HistogramCounts
	toServers, fromServers                 uint64
	clientParses, serverParses, binds      uint64
	retries, cancels, discards             uint64
	errors                                 map[string]uint64
	used, idle, parked, opening, inWaiting int
	most                                   int // 0 for what is summed
}

func (s *poolSums) add(meter *session.Meter) {
	for sum, h := range map[*session.HistogramCounts]*session.Histogram{
		&s.wait: &meter.Wait, &s.turn: &meter.Turn, &s.transaction: &meter.Transaction,
	} {
		counts := h.Counts()
		sum.Add(&counts)
	}
	s.toServers += meter.ToServers.Load()
	s.fromServers += meter.FromServers.Load()
	s.clientParses += meter.ClientParses.Load()
	s.serverParses += meter.ServerParses.Load()
	s.binds += meter.Binds.Load()
	s.retries += meter.Retries.Load()
	s.cancels += meter.Cancels.Load()
	s.discards += meter.Discards.Load()
	meter.Errors.Each(func(code string, n uint64) { s.errors[valid(orOther(code))] += n })
}

func orOther(code string) string {
	if code == "" {
		return otherPool
	}
	return code
}

// labels of one set of series: node, role, database, user.
type labels [4]string

// sums gathers meters and pools by labels.
func (m *meterMetrics) sums() map[labels]*poolSums {
	all := map[labels]*poolSums{}
	named := map[labels]bool{}
	of := func(l labels) *poolSums {
		if !named[l] {
			l = labels{otherPool, otherPool, otherPool, otherPool}
		}
		if all[l] == nil {
			all[l] = &poolSums{errors: map[string]uint64{}}
		}
		return all[l]
	}
	for _, meter := range m.server.pools.Meters() {
		l := poolLabels(meter.Key, meter.Role.String())
		if meter.User != "" && len(named) < m.limit {
			named[l] = true
		}
		of(l).add(meter.Meter)
	}
	for _, p := range m.server.pools.Stats() {
		l := poolLabels(p.Key, p.Role.String())
		s := of(l)
		if named[l] {
			s.most = m.server.door.rules.limits(p.Database, p.User).Max
		}
		s.used += p.Used
		s.idle += p.Idle
		s.parked += p.Parked
		s.opening += p.Opening
		s.inWaiting += p.Waiting
	}
	return all
}

func poolLabels(key pool.Key, role string) labels {
	return labels{string(key.Node), role, valid(key.Database), valid(key.User)}
}

// valid makes a label value of a name: clients choose names of databases and users, and their bytes are free.
func valid(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

func (m *meterMetrics) collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	all := m.sums()
	for l, s := range all {
		with := func(more ...string) []string { return append(slices.Clone(l[:]), more...) }
		out <- histogram(m.wait, &s.wait, l[:])
		out <- histogram(m.turn, &s.turn, l[:])
		out <- histogram(m.transaction, &s.transaction, l[:])
		counter(m.bytes, s.toServers, with("to_servers")...)
		counter(m.bytes, s.fromServers, with("from_servers")...)
		counter(m.statements, s.clientParses, with("client_parse")...)
		counter(m.statements, s.serverParses, with("server_parse")...)
		counter(m.statements, s.binds, with("bind")...)
		counter(m.retries, s.retries, l[:]...)
		counter(m.cancels, s.cancels, l[:]...)
		counter(m.discards, s.discards, l[:]...)
		for code, n := range s.errors {
			counter(m.errors, n, with(code)...)
		}
		for state, n := range map[string]int{"used": s.used, "idle": s.idle, "parked": s.parked, "opening": s.opening} {
			gauge(m.connections, n, with(state)...)
		}
		gauge(m.waiting, s.inWaiting, l[:]...)
		if s.most > 0 {
			gauge(m.most, s.most, l[:]...)
		}
	}
	m.collectClients(all, gauge)
	m.collectProxy(gauge, counter)
}

// collectClients counts clients by database and user: those whose pools have series of their own, and all others.
func (m *meterMetrics) collectClients(pools map[labels]*poolSums, gauge func(*prometheus.Desc, int, ...string)) {
	counts := map[place]int{}
	for l := range pools {
		counts[place{l[2], l[3]}] = 0
	}
	for at, n := range m.server.sessions.places() {
		at = place{valid(at.database), valid(at.user)}
		if _, named := counts[at]; !named {
			at = place{otherPool, otherPool}
		}
		counts[at] += n
	}
	for at, n := range counts {
		gauge(m.clients, n, at.database, at.user)
	}
	gauge(m.maxClients, m.server.tuned.Load().MaxClients)
}

// collectProxy tells what belongs to no pool.
func (m *meterMetrics) collectProxy(gauge func(*prometheus.Desc, int, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	for _, r := range m.server.broker.routes.all() {
		counter(m.routes, r.Count, string(r.Node), r.Place(), r.Why)
	}
	var logins uint64
	for _, n := range m.server.door.logins.all() {
		logins += n
	}
	counter(m.logins, logins)
	m.server.failures.Each(func(code string, n uint64) { counter(m.own, n, orOther(code)) })
	all, some := m.server.pools.Paused()
	everything := 0
	if all {
		everything = 1
	}
	gauge(m.paused, everything, "all")
	gauge(m.paused, len(some), "databases")
	gauge(m.disabled, m.server.door.console.disabledCount())
}

// histogram words the counts as Prometheus does: cumulative, in seconds.
func histogram(d *prometheus.Desc, counts *session.HistogramCounts, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(counts.Buckets))
	var below uint64
	for i, n := range counts.Buckets {
		below += n
		if bound, ok := session.Bound(i); ok {
			buckets[bound.Seconds()] = below
		}
	}
	return prometheus.MustNewConstHistogram(d, counts.Count, float64(counts.Sum)/float64(time.Second), buckets, labels...)
}
