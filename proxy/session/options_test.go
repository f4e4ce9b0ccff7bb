package session

import (
	"strings"
	"testing"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
)

// FuzzOptions: what is put into options, escaped as libpq's documentation tells, is read from them again.
func FuzzOptions(f *testing.F) {
	f.Add("search_path", `a\, b`, "work_mem", "1 MB", "--x=1 -c y=2")
	f.Add("a.b", "", "TimeZone", " -c x=y", `-c \`)
	f.Add("a", "b", "a", "c", "-c")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, raw string) {
		if list, bad := parseOptions(raw); bad != "" && list != nil {
			t.Fatalf("%q: both %v and refused for %q", raw, list, bad)
		}
		if name1 == "" || name2 == "" || strings.ContainsAny(name1+name2, "=-") || strings.EqualFold(name1, name2) {
			return
		}
		escape := strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", "\n", "\\\n", "\r", "\\\r", "\v", "\\\v", "\f", "\\\f").Replace
		text := "-c " + escape(name1+"="+value1) + "  --" + escape(name2+"="+value2)
		list, bad := parseOptions(text)
		if bad != "" || len(list) != 2 || list[0] != (Parameter{name1, value1}) || list[1] != (Parameter{name2, value2}) {
			t.Fatalf("%q: %q, refused for %q", text, list, bad)
		}
	})
}

// FuzzStartup: whatever a startup packet holds, the session either asks who the client is or tells it why not, and closes.
func FuzzStartup(f *testing.F) {
	f.Add(wire.AppendStartup(nil, wire.Protocol30, "user", "u", "options", "-c a=b", "walgate.target", "replica")[4:])
	f.Add(wire.AppendStartup(nil, wire.Protocol32+1, "user", "u", "_pq_.x", "1", "replication", "database")[4:])
	f.Add(wire.AppendStartup(nil, 2<<16, "user", "u")[4:])
	f.Add([]byte{0, 3, 0, 0, 'u'})
	f.Fuzz(func(t *testing.T, packet []byte) {
		if kind, _ := wire.ParseStartup(packet); kind != wire.StartupMessage || len(packet)+4 > wire.MaxStartup {
			return // the driver's
		}
		s := New(&Config{MaxSettings: 10})
		var out Actions
		s.Handle(1, &Event{Kind: Startup, Bytes: packet}, &out)
		told := wiretest.Describe(out.Output(Client))
		switch {
		case strings.Contains(told, "torn"):
			t.Fatalf("torn: %s", told)
		case (out.Authenticate != nil) == out.Close:
			t.Fatalf("asks %+v and closes: %t", out.Authenticate, out.Close)
		case out.Close && !strings.Contains(told, "E("):
			t.Fatalf("closes without a word: %q", told)
		case out.Authenticate != nil && (out.Authenticate.User == "" || out.Authenticate.Database == "" || len(out.Authenticate.Parameters) > 10):
			t.Fatalf("asks with %+v", out.Authenticate)
		}
	})
}
