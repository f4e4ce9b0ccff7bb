package admin

import (
	"fmt"
	"strconv"
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// fillNodes tells what is known of each member, and whether it may serve bounded reads now.
func fillNodes(_ *Console, s *Snapshot, t *table) {
	for _, m := range s.View.Members {
		st, known := s.Board.Nodes[m.Name]
		state := "unknown"
		switch {
		case known && !st.Reachable:
			state = "unreachable"
		case known && st.Role == replication.RoleStandby && st.Streaming:
			state = "streaming"
		case known:
			state = "running"
		}
		eligible, why := s.eligible(m)
		row := []any{string(m.Name), st.Role.String(), m.Host, m.Port, state, nil, nil, eligible, why, nil, nil, nil}
		if m.Name == s.View.Primary && !known {
			row[1] = replication.RolePrimary.String()
		}
		if known && st.Role == replication.RoleStandby {
			row[5], row[6] = orNull(st.LagBytes), orNull(int64(st.Lag/time.Millisecond))
		}
		if known && st.Reachable {
			row[9], row[10], row[11] = st.Received.String(), st.Replayed.String(), strconv.Itoa(int(st.Timeline))
		}
		t.add(row...)
	}
}

// orNull is NULL for what is not known.
func orNull(n int64) any {
	if n < 0 {
		return nil
	}
	return n
}

// eligible asks the router for a read that may be as old as the limits allow, with this member as the only standby.
func (s *Snapshot) eligible(m replication.Member) (bool, string) {
	if m.Name == s.View.Primary {
		if s.View.Writable() {
			return true, "the primary serves what no standby may"
		}
		choice := router.Pick(router.Input{View: &s.View, Board: &s.Board, Now: s.Now, Target: router.TargetPrimary})
		return false, choice.Why
	}
	view := s.View
	view.Members = []replication.Member{m}
	standing, known := s.Standings[m.Name]
	if !known {
		standing.Traits = router.TraitsOf(&m)
	}
	choice := router.Pick(router.Input{View: &view, Board: &s.Board, Now: s.Now, Kind: router.Read, Limits: s.Limits,
		Members: []router.Standing{standing}, Requirement: router.Requirement{Bounded: true}})
	return choice.Role == replication.RoleStandby && choice.Node == m.Name, choice.Why
}

func fillRoutes(_ *Console, s *Snapshot, t *table) {
	for _, r := range s.Routes {
		t.add(string(r.Node), r.Place(), r.Why, r.Count)
	}
}

// fillView tells what the proxy goes by: the newest view and the right to write.
func fillView(_ *Console, s *Snapshot, t *table) {
	v, h := &s.View, &s.View.Handoff
	yes := map[bool]string{true: "yes", false: "no"}
	t.add("cluster", v.Cluster)
	t.add("version", strconv.FormatUint(v.Version, 10))
	t.add("epoch", strconv.FormatUint(uint64(v.Epoch), 10))
	t.add("primary", string(v.Primary))
	t.add("timeline", strconv.Itoa(int(v.Timeline)))
	t.add("fork_lsn", v.ForkLSN.String())
	t.add("open", yes[v.Open])
	t.add("writable", yes[v.Writable()])
	t.add("paused", yes[v.Paused]) // the cluster: see walgate pause
	handoff := ""
	if h.ID != "" {
		handoff = fmt.Sprintf("%s to %s", h.From, h.To)
	}
	t.add("handoff", handoff)
	t.add("draining", yes[h.Draining])
	t.add("gate_epoch", strconv.FormatUint(uint64(s.Grant.Epoch), 10))
	left := s.Grant.Deadline.Sub(s.Now)
	t.add("gate_ms", strconv.FormatInt(max(left, 0).Milliseconds(), 10))
	t.add("held", strconv.Itoa(s.Held))
}
