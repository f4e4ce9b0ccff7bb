package session

import (
	"strconv"
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// route is how the last statement that needed a server came to it, for SHOW walgate.route.
type route struct {
	node     replication.NodeID
	why      string // constant text
	token    replication.LSN
	lag      time.Duration // as seen at the choice; -1: not known
	lagBytes int64
	kind     router.Kind
	level    router.Level
	role     replication.Role
}

// noteRoute remembers a choice. It allocates nothing.
func (s *Session) noteRoute(a *Attachment) {
	s.route = route{
		node: a.Server.Node, why: a.Why, token: a.Token, lag: a.Status.Lag, lagBytes: a.Status.LagBytes,
		kind: s.need.Kind, level: s.need.Level, role: a.Server.Role,
	}
}

var routeColumns = [...]string{"class", "node", "role", "why", "consistency", "token", "lag_ms", "lag_bytes"}

func (r *route) row() []string {
	if r.node == "" {
		return make([]string, len(routeColumns))
	}
	token, lag, lagBytes := "", "", ""
	if r.token.Known() {
		token = r.token.String()
	}
	if r.role == replication.RoleStandby && r.lag >= 0 {
		lag = strconv.FormatFloat(float64(r.lag)/float64(time.Millisecond), 'f', 3, 64)
		lagBytes = strconv.FormatInt(r.lagBytes, 10)
	}
	return []string{r.kind.String(), string(r.node), r.role.String(), r.why, r.level.String(), token, lag, lagBytes}
}
