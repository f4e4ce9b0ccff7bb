package session

import (
	"strconv"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// route is how the last statement that needed a server came to it, for SHOW walgate.route.
type route struct {
	choice   *choice // nil: there was none
	token    replication.LSN
	lagBytes int64
	lag      float32 // in milliseconds, as seen at the choice; negative: not known
	kind     router.Kind
	level    router.Level
}

// noteRoute remembers a choice. It allocates nothing.
func (s *Session) noteRoute(a *Attachment) {
	last := s.route.choice
	if last == nil || !last.is(a.Server.Node, a.Why, a.Server.Role) {
		last = s.cfg.shared.choice(a.Server.Node, a.Why, a.Server.Role)
	}
	s.route = route{
		choice: last, token: a.Token, lag: float32(a.Status.Lag.Seconds() * 1e3), lagBytes: a.Status.LagBytes,
		kind: s.need.Kind, level: s.need.Level,
	}
}

var routeColumns = [...]string{"class", "node", "role", "why", "consistency", "token", "lag_ms", "lag_bytes"}

func (r *route) row() []string {
	if r.choice == nil {
		return make([]string, len(routeColumns))
	}
	token, lag, lagBytes := "", "", ""
	if r.token.Known() {
		token = r.token.String()
	}
	if r.choice.role == replication.RoleStandby && r.lag >= 0 {
		lag = strconv.FormatFloat(float64(r.lag), 'f', 3, 32)
		lagBytes = strconv.FormatInt(r.lagBytes, 10)
	}
	return []string{r.kind.String(), string(r.choice.node), r.choice.role.String(), r.choice.why, r.level.String(), token, lag, lagBytes}
}
