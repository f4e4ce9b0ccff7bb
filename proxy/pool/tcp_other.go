//go:build !linux

package pool

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the kernel has no such limit.
func setUserTimeout(*net.TCPConn, time.Duration) {}

func (t TCP) applyListener(*net.TCPListener) {}
