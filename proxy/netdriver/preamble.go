package netdriver

import (
	"net"
	"net/netip"

	"github.com/walgate/walgate/proxy/preamble"
)

// preamble takes the client's address from the PROXY header of a trusted load balancer, which must send one; anybody
// else may not. The address is then the client's for everything: rules, lists, logs.
func (c *Client) preamble() bool {
	if c.introduced || !c.entry.balanced(c.remote) {
		return true
	}
	var header []byte
	for {
		h, more, err := preamble.Parse(header)
		switch {
		case err != nil:
			c.driver.log.Warn("no PROXY header from a load balancer", "client", c.remoteAddr(), "error", err)
			return false
		case more == 0:
			if h.Source.IsValid() {
				c.mu.Lock()
				c.remote = net.TCPAddrFromAddrPort(h.Source)
				c.mu.Unlock()
			}
			return true
		}
		from := len(header)
		header = append(header, make([]byte, more)...)
		if err := c.readFull(header[from:]); err != nil {
			return false // a port check says nothing
		}
	}
}

// balanced reports whether the address is a load balancer's.
func (e *Entry) balanced(remote net.Addr) bool {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok || len(e.ProxyFrom) == 0 {
		return false
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	for _, p := range e.ProxyFrom {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}
