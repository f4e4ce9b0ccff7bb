package proxy_test

import (
	"net"
	"testing"
	"time"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/router"
)

// A listener and a database may have defaults of their own; the session has the last word. The listener's target is final.
func TestScopesOfReads(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.Listeners = append(c.Listeners,
			proxy.Listener{Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetAuto,
				Reads: session.Reads{Level: router.LevelStrong, MaxLag: time.Minute, MaxLagBytes: session.NoLimit}},
			proxy.Listener{Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetPrimary})
		c.Pools = []proxy.PoolRule{{Database: "app", Servers: pool.Limits{Max: 5},
			Reads: session.Reads{Target: router.TargetReplica, Level: router.LevelBounded, Fallback: router.FallbackError}}}
	})
	addrs, err := s.server.Addrs(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{
		{"consistency": "bounded", "target": "replica", "fallback": "error", "max_lag": "1s, 1048576B"},
		{"consistency": "strong", "target": "replica", "fallback": "error", "max_lag": "1m0s"},
		{"consistency": "bounded", "target": "primary", "fallback": "error", "max_lag": "1s, 1048576B"},
	}
	for i, addr := range addrs {
		s.port = addr.(*net.TCPAddr).Port
		conn := s.connect(t)
		for name, value := range want[i] {
			if got := query[string](t, conn, "show walgate."+name); got != value {
				t.Errorf("listener %d: %s is %q, want %q", i, name, got, value)
			}
		}
		mustExec(t, conn, "set walgate.target = 'auto'")
		mustExec(t, conn, "set walgate.max_lag = '5MB'")
		auto := "auto"
		if i == 2 {
			auto = "primary"
		}
		if got := query[string](t, conn, "show walgate.target"); got != auto {
			t.Errorf("listener %d: target is %q after SET, want %q", i, got, auto)
		}
		if got := query[string](t, conn, "show walgate.max_lag"); got == want[i]["max_lag"] {
			t.Errorf("listener %d: max_lag is %q after SET", i, got)
		}
	}
}
