package proxy_test

import (
	"testing"

	"github.com/walgate/walgate/proxy"
)

// TestHalfDateStyle: a SET of one half of DateStyle keeps the other wherever the session goes on.
func TestHalfDateStyle(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Pools, c.PoolMax = nil, 2 })
	a, blocker := s.connect(t), s.connect(t)
	mustExec(t, a, "set datestyle to sql, mdy")
	mustExec(t, a, "set datestyle to dmy")
	mustExec(t, blocker, "begin; select 1")
	if got := value(t, a, "select date '2001-02-03'"); got != "03/02/2001" {
		t.Errorf("%q, want 03/02/2001", got)
	}
}
