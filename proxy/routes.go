package proxy

import (
	"sync"
	"sync/atomic"

	"github.com/walgate/walgate/proxy/admin"
	"github.com/walgate/walgate/router"
)

// maxRoutes bounds the choices that are told apart: the members of a cluster by the router's reasons.
const maxRoutes = 512

// routes counts choices by node, role and reason. The list only grows, and is copied for that: counting takes a look
// through a few entries whose texts are constants.
type routes struct {
	list atomic.Pointer[[]*route]
	mu   sync.Mutex // held to grow
}

type route struct {
	router.Choice
	n atomic.Uint64
}

func (r *routes) count(choice router.Choice) {
	list := r.list.Load()
	if list != nil {
		for _, e := range *list {
			if e.Choice == choice {
				e.n.Add(1)
				return
			}
		}
	}
	r.grow(choice).n.Add(1)
}

// grow adds the choice; where there is no room for more, the last entry stands for all others.
func (r *routes) grow(choice router.Choice) *route {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*route
	if now := r.list.Load(); now != nil {
		list = *now
	}
	for _, e := range list {
		if e.Choice == choice {
			return e
		}
	}
	if len(list) == maxRoutes {
		return list[maxRoutes-1]
	}
	if len(list) == maxRoutes-1 {
		choice = router.Choice{Why: "other"}
	}
	e := &route{Choice: choice}
	grown := append(append([]*route{}, list...), e)
	r.list.Store(&grown)
	return e
}

func (r *routes) all() []admin.Route {
	list := r.list.Load()
	if list == nil {
		return nil
	}
	var all []admin.Route
	for _, e := range *list {
		all = append(all, admin.Route{Node: e.Node, Role: e.Role, Why: e.Why, Count: e.n.Load(), Refused: e.Refused})
	}
	return all
}
