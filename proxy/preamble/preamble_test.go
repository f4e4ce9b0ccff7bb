package preamble_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/walgate/walgate/proxy/preamble"
)

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

// read feeds Parse as a connection would: exactly what it asks for.
func read(t *testing.T, text string) (h preamble.Header, used int, err error) {
	t.Helper()
	for {
		h, more, err := preamble.Parse([]byte(text[:used]))
		if err != nil || more == 0 {
			return h, used, err
		}
		if used+more > len(text) {
			return h, used, nil
		}
		used += more
	}
}

func TestParse(t *testing.T) {
	v4 := "\x0a\x01\x02\x03\xc0\xa8\x00\x01\x30\x39\x19\x20"
	v6 := strings.Repeat("\x00", 15) + "\x01" + strings.Repeat("\x20", 16) + "\x00\x01\x00\x02"
	for name, c := range map[string]struct {
		text, source, destination string // "" and ok: no address
		ok                        bool
	}{
		"v1 TCP4":               {"PROXY TCP4 10.1.2.3 192.168.0.1 12345 6432\r\n", "10.1.2.3:12345", "192.168.0.1:6432", true},
		"v1 TCP6":               {"PROXY TCP6 ::1 2001:db8::2 1 65535\r\n", "[::1]:1", "[2001:db8::2]:65535", true},
		"v1 unknown":            {"PROXY UNKNOWN\r\n", "", "", true},
		"v1 unknown with words": {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", "", true},
		"v1 mixed families":     {"PROXY TCP4 ::1 192.168.0.1 1 2\r\n", "", "", false},
		"v1 port too large":     {"PROXY TCP4 10.1.2.3 10.1.2.4 65536 1\r\n", "", "", false},
		"v1 port with zeros":    {"PROXY TCP4 10.1.2.3 10.1.2.4 01 1\r\n", "", "", false},
		"v1 bare newline":       {"PROXY TCP4 10.1.2.3 10.1.2.4 1 1\n", "", "", false},
		"v1 without end":        {"PROXY TCP4 " + strings.Repeat("1", 200), "", "", false},
		"v2 IPv4":               {v2 + "\x21\x11\x00\x0c" + v4, "10.1.2.3:12345", "192.168.0.1:6432", true},
		"v2 IPv4 and TLVs":      {v2 + "\x21\x11\x00\x10" + v4 + "\x04\x00\x01x", "10.1.2.3:12345", "192.168.0.1:6432", true},
		"v2 IPv6":               {v2 + "\x21\x21\x00\x24" + v6, "[::1]:1", "[2020:2020:2020:2020:2020:2020:2020:2020]:2", true},
		"v2 local":              {v2 + "\x20\x00\x00\x00", "", "", true},
		"v2 local with body":    {v2 + "\x20\x11\x00\x0c" + v4, "", "", true},
		"v2 unix":               {v2 + "\x21\x31\x00\xd8" + strings.Repeat("x", 216), "", "", true},
		"v2 too short":          {v2 + "\x21\x11\x00\x0b" + v4[1:], "", "", false},
		"v2 other version":      {v2 + "\x31\x11\x00\x0c" + v4, "", "", false},
		"v2 other command":      {v2 + "\x22\x11\x00\x0c" + v4, "", "", false},
		"v2 too long":           {v2 + "\x21\x11\xff\xff" + v4, "", "", false},
		"a startup packet":      {"\x00\x00\x00\x08\x04\xd2\x16\x2f____", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			const next = "what the client says"
			h, used, err := read(t, c.text+next)
			if (err == nil) != c.ok {
				t.Fatalf("Parse(%q): %v, want ok %v", c.text, err, c.ok)
			}
			if !c.ok {
				return
			}
			if used != len(c.text) {
				t.Errorf("%d bytes were read of %d", used, len(c.text))
			}
			want := preamble.Header{}
			if c.source != "" {
				want = preamble.Header{Source: netip.MustParseAddrPort(c.source), Destination: netip.MustParseAddrPort(c.destination)}
			}
			if h != want {
				t.Errorf("got %v, want %v", h, want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 10.1.2.3 192.168.0.1 12345 6432\r\n"))
	f.Add([]byte(v2 + "\x21\x11\x00\x0c\x0a\x01\x02\x03\xc0\xa8\x00\x01\x30\x39\x19\x20"))
	f.Add([]byte(v2 + "\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		used := 0
		for used <= len(text) {
			h, more, err := preamble.Parse(text[:used])
			if more < 0 || used+more > 16+2048 || err != nil && more != 0 {
				t.Fatalf("%d more after %d bytes of %q, %v", more, used, text, err)
			}
			if h.Source.IsValid() != h.Destination.IsValid() {
				t.Fatalf("half a header: %v", h)
			}
			if err != nil || more == 0 {
				return
			}
			used += more
		}
	})
}
