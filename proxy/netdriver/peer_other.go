//go:build !linux

package netdriver

import "net"

// peerUID is not known on this system: the method peer can't be used.
func peerUID(net.Conn) int { return -1 }
