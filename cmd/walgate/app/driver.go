package app

import (
	"os"
	"runtime"
	"runtime/debug"
)

// The values of proxy.driver.
const (
	driverAuto      = "auto"
	driverLoop      = "loop"
	driverGoroutine = "goroutine"
)

// maxLoops bounds proxy.loops.
const maxLoops = 64

// loops is how many epoll loops the configuration asks for; 0: goroutines serve everybody.
func (p *ProxyConfig) loops() int {
	encrypted := p.ServerTLS.Mode != "disable"
	switch {
	case p.Driver == driverGoroutine, p.Driver == driverAuto && encrypted:
		return 0
	case p.Loops > 0:
		return p.Loops
	}
	return max(runtime.NumCPU()/2, 1)
}

// makeRoom lets the runtime have processors besides those that busy loops hold: for a loop's wait the Go runtime counts as
// at work, and what is not a loop must go on all the same.
func makeRoom(loops int) {
	if loops > 0 {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), loops+2))
	}
}

// garbage is how much of it, in percent of what is in use, may lie about. Loops allocate at logins only, so that collecting
// it more often than by default costs next to nothing, and what idle clients take is less by a quarter.
const garbage = 40

// keepLean has garbage collected early, unless the operator has chosen otherwise (GOGC).
func keepLean() {
	if _, chosen := os.LookupEnv("GOGC"); !chosen {
		debug.SetGCPercent(garbage)
	}
}

// driver checks proxy.driver and what belongs to it.
func (k *check) driver(p *ProxyConfig) {
	k.oneOf("proxy.driver", p.Driver, driverAuto, driverLoop, driverGoroutine)
	if p.Loops < 0 || p.Loops > maxLoops {
		k.failf("proxy.loops", "%d; allowed: 0 to %d", p.Loops, maxLoops)
	}
	if p.Driver == driverLoop && p.ServerTLS.Mode != "disable" {
		k.failf("proxy.driver", "loop speaks no TLS to PostgreSQL; with proxy.server_tls.mode %s: auto, goroutine", p.ServerTLS.Mode)
	}
}
