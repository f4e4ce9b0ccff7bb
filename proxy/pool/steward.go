package pool

import (
	"slices"
	"sync"
)

// steward serves the lines of all nodes whenever something has changed for them. Its work is done by one goroutine at a
// time, which exists only while there is something to do: it takes the locks of several pools, one after the other,
// which nobody else may.
type steward struct {
	mu      sync.Mutex // taken after a Budget's
	running bool
	again   bool
	ended   bool
}

// wake has the lines looked at soon. It may be called with a Budget's lock held.
func (s *Set) wake() {
	st := &s.steward
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return
	}
	if st.running {
		st.again = true
		return
	}
	st.running = true
	s.tasks.Go(s.serveLines) // ends when the lines have been looked at and nothing has changed since
}

func (s *Set) serveLines() {
	for {
		for _, n := range s.nodeList() {
			s.serveLine(n)
		}
		s.steward.mu.Lock()
		if !s.steward.again {
			s.steward.running = false
			s.steward.mu.Unlock()
			return
		}
		s.steward.again = false
		s.steward.mu.Unlock()
	}
}

// serveLine gives what room there is to those in line, oldest first, and then has idle connections of others closed for
// those who remain.
func (s *Set) serveLine(n *node) {
	if n.hungry.Load() == 0 {
		return
	}
	for served := true; served; {
		served = false
		for _, c := range n.claims() {
			if served = c.budget.serveClaim(); served {
				break // its next session may be younger than those of others
			}
		}
	}
	claims := n.claims()
	if len(claims) == 0 {
		return
	}
	pools := n.idle(s.list())
	for _, c := range claims {
		at := choose(c, pools)
		if at < 0 {
			continue
		}
		if !n.spare() {
			return
		}
		if !pools[at].budget.evict() {
			n.spared() // it is in use: when it is given back, it makes room
		}
		pools = slices.Delete(pools, at, at+1) // one of each in a round; whoever leaves begins the next
	}
}

func (s *Set) nodeList() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*node, 0, len(s.nodes))
	for _, n := range s.nodes {
		all = append(all, n)
	}
	return all
}
