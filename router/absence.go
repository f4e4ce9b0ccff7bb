package router

import (
	"time"

	"github.com/walgate/walgate/replication"
)

// Absence is a condition that keeps a standby from serving: it begins at once, and is over only when the standby has been
// well for a while, so that one which comes and goes does not get reads in between. The zero Absence is none.
type Absence struct {
	Out       bool
	wellSince replication.Instant // while Out; 0: it is not well
	BackAt    replication.Instant // when it was over last; 0: it never began
}

func (a Absence) next(well bool, now replication.Instant, after time.Duration) Absence {
	switch {
	case !well:
		return Absence{Out: true, BackAt: a.BackAt}
	case !a.Out:
		return a
	case a.wellSince == 0 && after > 0:
		return Absence{Out: true, wellSince: now, BackAt: a.BackAt}
	case now.Sub(a.wellSince) < after:
		return a
	default:
		return Absence{BackAt: now}
	}
}

// Look brings the absences of a member up to date. limits are the common ones: a standby that has been too far behind has
// to come down to half of them.
func (s *Standing) Look(st replication.Status, view *replication.View, now replication.Instant, limits Limits, after time.Duration) {
	if st.Node == "" {
		return // nothing was ever heard of it
	}
	present := st.Reachable && st.Role == replication.RoleStandby && (st.Streaming || !view.Writable())
	if s.Behind.Out {
		limits.MaxLagBytes, limits.MaxLag = (limits.MaxLagBytes+1)/2, (limits.MaxLag+1)/2
	}
	near := (limits.MaxLagBytes <= 0 || st.LagBytes <= limits.MaxLagBytes) && (limits.MaxLag <= 0 || st.Lag <= limits.MaxLag)
	s.Away = s.Away.next(present, now, after)
	if !present || st.LagBytes >= 0 && st.Lag >= 0 { // else the lag is not known
		s.Behind = s.Behind.next(present && near, now, after)
	}
}
