package proxy

import (
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// standings are what the broker knows of the members besides their statuses, in the order of the view's members. One is
// immutable once published.
type standings struct {
	names []replication.NodeID
	list  []router.Standing
}

// next looks at the members of a view again.
func (s *standings) next(view *replication.View, board *replication.StatusBoard, now replication.Instant, limits router.Limits, after time.Duration) *standings {
	fresh := &standings{names: make([]replication.NodeID, len(view.Members)), list: make([]router.Standing, len(view.Members))}
	for i := range view.Members {
		m := &view.Members[i]
		fresh.names[i] = m.Name
		one := &fresh.list[i]
		if old := s.of(m.Name); old != nil {
			*one = *old
		}
		one.Traits = router.TraitsOf(m)
		if m.Name == view.Primary {
			one.Away, one.Behind = router.Absence{}, router.Absence{}
			continue
		}
		one.Look(board.Status(m.Name), view, now, limits, after)
	}
	return fresh
}

func (s *standings) of(name replication.NodeID) *router.Standing {
	for i := range s.names {
		if s.names[i] == name {
			return &s.list[i]
		}
	}
	return nil
}

// appendTo appends the standings of the members of a state, with what they have to do now.
func (s *standings) appendTo(dst []router.Standing, st *state, now replication.Instant) []router.Standing {
	for i := range st.view.Members {
		var one router.Standing
		if i < len(s.names) && s.names[i] == st.view.Members[i].Name {
			one = s.list[i]
		} else if old := s.of(st.view.Members[i].Name); old != nil {
			one = *old
		}
		load := st.loads[i]
		one.Outstanding, one.Latency, one.EjectedUntil = load.Outstanding(), load.Latency(now), load.EjectedUntil()
		dst = append(dst, one)
	}
	return dst
}

// standings returns what is known of the members now, by name.
func (b *broker) standings(now replication.Instant) map[replication.NodeID]router.Standing {
	st := b.state.Load()
	all := make(map[replication.NodeID]router.Standing, len(st.view.Members))
	for i, one := range b.stood.Load().appendTo(nil, st, now) {
		all[st.view.Members[i].Name] = one
	}
	return all
}
