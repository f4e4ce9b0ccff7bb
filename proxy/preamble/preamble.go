// Package preamble reads the PROXY protocol, versions 1 and 2: what a load balancer says of a client before the client's
// own first byte. It is pure: bytes in, Header out, and it never asks for a byte that is not the header's. The main
// function is Parse.
package preamble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// Header is what the load balancer says.
type Header struct {
	// Source is the client's address; the zero AddrPort when the balancer speaks for itself (a health check) or does not
	// know: then the address of the connection counts.
	Source      netip.AddrPort
	Destination netip.AddrPort // where the client connected to
}

// ErrMalformed says that the bytes are no header, or an unreasonable one.
var ErrMalformed = errors.New("malformed PROXY protocol header")

// Bounds, in bytes.
const (
	maxText   = 107  // a whole header of version 1
	fixedSize = 16   // of version 2, before the addresses
	maxBinary = 2048 // addresses and TLVs of version 2
	first     = 12   // with so many the version is known; no header is shorter
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// Parse reads a header from its beginning. When buf is not all of it, more is how many bytes certainly follow: reading
// exactly so many never reads beyond the header.
func Parse(buf []byte) (h Header, more int, err error) {
	switch {
	case len(buf) < first:
		if !strings.HasPrefix(signature, string(buf)) && !strings.HasPrefix("PROXY ", string(buf[:min(len(buf), 6)])) {
			return Header{}, 0, ErrMalformed
		}
		return Header{}, first - len(buf), nil
	case string(buf[:first]) == signature:
		return parseBinary(buf)
	case bytes.HasPrefix(buf, []byte("PROXY ")):
		return parseText(buf)
	}
	return Header{}, 0, ErrMalformed
}

// parseText reads version 1: one line.
func parseText(buf []byte) (h Header, more int, err error) {
	switch end := bytes.IndexByte(buf, '\n'); {
	case end < 0 && len(buf) >= maxText:
		return Header{}, 0, ErrMalformed
	case end < 0:
		return Header{}, 1, nil
	case end != len(buf)-1 || end > maxText-1 || buf[end-1] != '\r':
		return Header{}, 0, ErrMalformed
	}
	fields := strings.Split(string(buf[:len(buf)-2]), " ")
	if fields[1] == "UNKNOWN" {
		return Header{}, 0, nil
	}
	if len(fields) != 6 || fields[1] != "TCP4" && fields[1] != "TCP6" {
		return Header{}, 0, ErrMalformed
	}
	if h.Source, err = addrPort(fields[2], fields[4], fields[1] == "TCP4"); err != nil {
		return Header{}, 0, err
	}
	if h.Destination, err = addrPort(fields[3], fields[5], fields[1] == "TCP4"); err != nil {
		return Header{}, 0, err
	}
	return h, 0, nil
}

func addrPort(host, port string, v4 bool) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(host)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || addr.Is4() != v4 || addr.Zone() != "" || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, ErrMalformed
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}

// parseBinary reads version 2. TLVs behind the addresses are skipped.
func parseBinary(buf []byte) (h Header, more int, err error) {
	if len(buf) < fixedSize {
		return Header{}, fixedSize - len(buf), nil
	}
	version, command, family := buf[12]>>4, buf[12]&15, buf[13]
	length := int(binary.BigEndian.Uint16(buf[14:]))
	switch {
	case version != 2 || command > 1 || length > maxBinary || len(buf) > fixedSize+length:
		return Header{}, 0, ErrMalformed
	case len(buf) < fixedSize+length:
		return Header{}, fixedSize + length - len(buf), nil
	case command == 0: // LOCAL
		return Header{}, 0, nil
	}
	body, size := buf[fixedSize:], 0
	switch family {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	default: // unspecified, datagrams, unix sockets: nothing that is an address to us
		return Header{}, 0, nil
	}
	if len(body) < 2*size+4 {
		return Header{}, 0, ErrMalformed
	}
	source, _ := netip.AddrFromSlice(body[:size])
	destination, _ := netip.AddrFromSlice(body[size : 2*size])
	ports := body[2*size:]
	h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(ports))
	h.Destination = netip.AddrPortFrom(destination.Unmap(), binary.BigEndian.Uint16(ports[2:]))
	return h, 0, nil
}
