package admin

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

// owner names a pool as PgBouncer knows it: on whatever nodes.
type owner struct{ database, user string }

// poolRow is one line of SHOW POOLS.
type poolRow struct {
	active, waiting, held              int // clients
	used, canceled, idle, login, total int // servers
	oldest                             time.Duration
}

// poolRows sums clients and servers by database and user.
func (s *Snapshot) poolRows() map[owner]*poolRow {
	rows := map[owner]*poolRow{}
	row := func(database, user string) *poolRow {
		o := owner{database, user}
		if rows[o] == nil {
			rows[o] = &poolRow{}
		}
		return rows[o]
	}
	for _, p := range s.Pools {
		row(p.Database, p.User)
	}
	for _, c := range s.Sessions {
		if c.Console || c.State == session.StateLogin {
			continue
		}
		r := row(c.Database, c.User)
		if c.State == session.StateWaiting {
			r.waiting++
		} else {
			r.active++
		}
		if c.Held {
			r.held++
		}
		if c.WaitingSince != 0 {
			r.oldest = max(r.oldest, s.Now.Sub(c.WaitingSince))
		}
	}
	for _, v := range s.Servers {
		r := row(v.Database, v.User)
		r.total++
		switch v.State {
		case "active":
			r.used++
		case "being_canceled":
			r.canceled++
		case "idle":
			r.idle++
		case "new":
			r.login++
		}
	}
	return rows
}

func owners(rows map[owner]*poolRow) []owner {
	list := make([]owner, 0, len(rows))
	for o := range rows {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b owner) int {
		return cmp.Or(cmp.Compare(a.database, b.database), cmp.Compare(a.user, b.user))
	})
	return list
}

func fillPools(_ *Console, s *Snapshot, t *table) {
	rows := s.poolRows()
	for _, o := range owners(rows) {
		r := rows[o]
		seconds, micros := split(r.oldest)
		t.add(o.database, o.user, r.active, r.waiting, 0, 0, r.used, 0, r.canceled, r.idle, 0, 0, r.login, seconds, micros,
			modeWord(s.PoolMode(o.database, o.user)), nil, r.held)
	}
}

func fillNodePools(_ *Console, s *Snapshot, t *table) {
	type place struct {
		pool.Key
		role string
	}
	outdated := map[place]int{}
	for _, v := range s.Servers {
		if v.Outdated {
			outdated[place{v.Key, v.Role.String()}]++
		}
	}
	for _, p := range s.Pools {
		t.add(string(p.Node), p.Role.String(), uint64(p.Epoch), p.Database, p.User, p.Used, p.Idle, max(p.Open-p.Used-p.Idle, 0),
			p.Waiting, outdated[place{p.Key, p.Role.String()}])
	}
}

func fillDatabases(_ *Console, s *Snapshot, t *table) {
	host, port := "", 0
	if primary, ok := s.View.Member(s.View.Primary); ok {
		host, port = primary.Host, primary.Port
	}
	rows := s.poolRows()
	for _, name := range s.databases() {
		servers, clients := 0, 0
		for o, r := range rows {
			if o.database == name {
				servers += r.total
				clients += r.active + r.waiting
			}
		}
		limits, maxClients := s.PoolLimits(name, "")
		t.add(name, host, port, name, nil, limits.Max, limits.Min, limits.Reserve, int64(s.PoolLifetime/time.Second),
			modeWord(s.PoolMode(name, "")), nil, limits.Database, servers, maxClients, clients, s.isPaused(name), contains(s.Disabled, name))
	}
}

func fillUsers(_ *Console, s *Snapshot, t *table) {
	rows := s.poolRows()
	for _, name := range s.users() {
		servers, clients := 0, 0
		for o, r := range rows {
			if o.user == name {
				servers += r.total
				clients += r.active + r.waiting
			}
		}
		t.add(name, "", "", nil, 0, servers, 0, clients)
	}
}

// fillPrepared tells who has how many prepared statements.
func fillPrepared(_ *Console, s *Snapshot, t *table) {
	for _, c := range s.Sessions {
		if !c.Console && c.Statements > 0 {
			t.add("C", strconv.Itoa(int(c.ID)), c.Database, c.User, c.Statements, c.Turns)
		}
	}
	for _, v := range s.sortedServers() {
		if v.Statements > 0 {
			t.add("S", strconv.FormatUint(v.ID, 10), v.Database, v.User, v.Statements, nil)
		}
	}
}

func modeWord(m session.PoolMode) string {
	switch m {
	case session.PoolSession:
		return "session"
	case session.PoolStatement:
		return "statement"
	default:
		return "transaction"
	}
}

// split is how PgBouncer tells a time: whole seconds, and the microseconds beyond.
func split(d time.Duration) (seconds, micros int64) {
	return int64(d / time.Second), int64(d % time.Second / time.Microsecond)
}
