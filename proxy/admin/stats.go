package admin

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/replication"
)

// stats are the numbers of one database, in the order of statNames.
type stats [statCount]int64

// Places in stats.
const (
	statAssignments = iota
	statTransactions
	statQueries
	statReceived
	statSent
	statTransactionTime // microseconds, as the next two
	statQueryTime
	statWaitTime
	statClientParses
	statServerParses
	statBinds
	statLogins
	statErrors // ours from here on
	statRetries
	statCancels
	statCount
)

var statNames = [statCount]string{
	"server_assignment_count", "xact_count", "query_count", "received", "sent", "xact_time", "query_time", "wait_time",
	"client_parse_count", "server_parse_count", "bind_count", "client_login_count", "error_count", "retry_count", "cancel_count",
}

// statColumns are the columns of one of PgBouncer's tables of statistics, which don't agree on names.
func statColumns(prefix, dialect string, names []string) []column {
	var list []column
	for i, name := range names {
		p := prefix
		switch {
		case dialect == "avg" && name == "received":
			name = "recv"
		case (dialect == "totals" || dialect == "averages") && (name == "received" || name == "sent"):
			name = "bytes_" + name
		case dialect == "averages" && i >= statClientParses:
			p = "avg_"
		}
		list = append(list, column{p + name, typeNumeric})
	}
	return list
}

// allStats are the columns of SHOW STATS.
func allStats() []column {
	list := append(columns("s", "database"), statColumns("total_", "", statNames[:statErrors])...)
	list = append(list, statColumns("avg_", "avg", statNames[:statErrors])...)
	return append(list, statColumns("total_", "", statNames[statErrors:])...)
}

// statistics sums the meters by database.
func (s *Snapshot) statistics() map[string]*stats {
	byDatabase := map[string]*stats{}
	of := func(database string) *stats {
		if byDatabase[database] == nil {
			byDatabase[database] = &stats{}
		}
		return byDatabase[database]
	}
	for _, m := range s.Meters {
		st := of(m.Database)
		wait, turn, transaction := m.Wait.Counts(), m.Turn.Counts(), m.Transaction.Counts()
		st[statAssignments] += int64(wait.Count)
		st[statTransactions] += int64(transaction.Count)
		st[statQueries] += int64(turn.Count)
		st[statReceived] += int64(m.ToServers.Load())
		st[statSent] += int64(m.FromServers.Load())
		st[statTransactionTime] += transaction.Sum.Microseconds()
		st[statQueryTime] += turn.Sum.Microseconds()
		st[statWaitTime] += wait.Sum.Microseconds()
		st[statClientParses] += int64(m.ClientParses.Load())
		st[statServerParses] += int64(m.ServerParses.Load())
		st[statBinds] += int64(m.Binds.Load())
		m.Errors.Each(func(_ string, n uint64) { st[statErrors] += int64(n) })
		st[statRetries] += int64(m.Retries.Load())
		st[statCancels] += int64(m.Cancels.Load())
	}
	for database, n := range s.Logins {
		of(database)[statLogins] += int64(n)
	}
	return byDatabase
}

func (s *Snapshot) sortedMeters() []pool.Metered {
	return slices.SortedFunc(slices.Values(s.Meters), func(a, b pool.Metered) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Database, b.Database),
			cmp.Compare(a.User, b.User))
	})
}

// sample is the statistics of one moment.
type sample struct {
	at    replication.Instant
	stats map[string]*stats
}

// Run samples the statistics every Config.StatsPeriod, for the averages, until ctx ends.
func (c *Console) Run(ctx context.Context) {
	tick := time.NewTicker(c.cfg.StatsPeriod)
	defer tick.Stop()
	for {
		c.sample()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Console) sample() {
	s := c.proxy.Snapshot()
	next := sample{s.Now, s.statistics()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.older, c.newer = c.newer, next
}

// average returns the averages of the last period for some databases together: times for each of what they belong to,
// everything else per second.
func (c *Console) average(databases ...string) stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	var d stats
	if c.older.stats == nil {
		return d
	}
	for _, database := range databases {
		for i := range d {
			d[i] += c.newer.of(database, i) - c.older.of(database, i)
		}
	}
	each := func(time, count int) {
		if d[count] > 0 {
			d[time] /= d[count]
		}
	}
	each(statTransactionTime, statTransactions)
	each(statQueryTime, statQueries)
	each(statWaitTime, statAssignments)
	seconds := c.newer.at.Sub(c.older.at).Seconds()
	for i, n := range d {
		if i != statTransactionTime && i != statQueryTime && i != statWaitTime && seconds > 0 {
			d[i] = int64(float64(n) / seconds)
		}
	}
	return d
}

func (s *sample) of(database string, i int) int64 {
	if st := s.stats[database]; st != nil {
		return st[i]
	}
	return 0
}

// eachDatabase calls f in the order of names.
func eachDatabase(byDatabase map[string]*stats, f func(name string, st *stats)) {
	seen := map[string]bool{}
	for name := range byDatabase {
		seen[name] = true
	}
	for _, name := range sorted(seen) {
		f(name, byDatabase[name])
	}
}

// values are those of the statistics from one place up to another.
func (st *stats) values(from, to int) []any {
	list := make([]any, 0, to-from)
	for _, n := range st[from:to] {
		list = append(list, n)
	}
	return list
}

func fillStats(c *Console, s *Snapshot, t *table) {
	eachDatabase(s.statistics(), func(name string, st *stats) {
		average := c.average(name)
		row := append([]any{name}, st.values(0, statErrors)...)
		row = append(row, average.values(0, statErrors)...)
		t.add(append(row, st.values(statErrors, statCount)...)...)
	})
}

func fillStatsTotals(_ *Console, s *Snapshot, t *table) {
	eachDatabase(s.statistics(), func(name string, st *stats) { t.add(append([]any{name}, st.values(0, statCount)...)...) })
}

func fillStatsAverages(c *Console, s *Snapshot, t *table) {
	eachDatabase(s.statistics(), func(name string, _ *stats) {
		average := c.average(name)
		t.add(append([]any{name}, average.values(0, statErrors)...)...)
	})
}

func fillTotals(c *Console, s *Snapshot, t *table) {
	var total stats
	var names []string
	for name, st := range s.statistics() {
		names = append(names, name)
		for i := range total {
			total[i] += st[i]
		}
	}
	average := c.average(names...)
	// PgBouncer calls the bytes by another name here.
	name := func(i int) string {
		return strings.NewReplacer("received", "client_bytes", "sent", "server_bytes").Replace(statNames[i])
	}
	for i, n := range total[:statErrors] {
		t.add("total_"+name(i), n)
	}
	for i, n := range average[:statErrors] {
		t.add("avg_"+name(i), n)
	}
	for i := statErrors; i < statCount; i++ {
		t.add("total_"+name(i), total[i])
	}
}
