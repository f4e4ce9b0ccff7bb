package hba

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	rules, err := Parse("file", []byte(`
# comment, and a blank line

local   all              postgres                      peer map=admins
local   sameuser         all                           scram-sha-256
hostssl "all",app        "user, with # in it"  all     cert clientname=DN
hostssl all              certified  0.0.0.0/0          scram-sha-256 clientcert=verify-full map=m  # why not
host    /^db[0-9]+$      /^team_    10.0.0.0/8         md5
host    app              \
        masked   192.168.1.0  255.255.255.0  password
host    replication      all        ::1/128            trust
hostnossl all            plain      all                password
host    app,other        all        ::/0               reject
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		c    Client
		line int // 0: none
	}{
		{"local superuser", Client{Unix: true, Database: "x", User: "postgres"}, 4},
		{"local, own database", Client{Unix: true, Database: "me", User: "me"}, 5},
		{"local, other database", Client{Unix: true, Database: "x", User: "me"}, 0},
		{"quoted names", Client{TLS: true, Database: "all", User: "user, with # in it"}, 6},
		{"quoted all is no keyword", Client{TLS: true, Database: "x", User: "user, with # in it"}, 0},
		{"hostssl without TLS", Client{Database: "app", User: "user, with # in it", Address: netip.MustParseAddr("10.1.1.1")}, 0},
		{"clientcert", Client{TLS: true, Database: "x", User: "certified", Address: netip.MustParseAddr("1.2.3.4")}, 7},
		{"patterns", Client{Database: "db12", User: "team_a", Address: netip.MustParseAddr("10.9.9.9")}, 8},
		{"pattern does not fit", Client{Database: "db", User: "team_a", Address: netip.MustParseAddr("10.9.9.9")}, 0},
		{"outside of the network", Client{Database: "db1", User: "team_a", Address: netip.MustParseAddr("11.0.0.1")}, 0},
		{"mapped address", Client{Database: "db1", User: "team_a", Address: netip.MustParseAddr("::ffff:10.9.9.9")}, 8},
		{"mask, continued line", Client{Database: "app", User: "masked", Address: netip.MustParseAddr("192.168.1.77")}, 9},
		{"mask does not fit", Client{Database: "app", User: "masked", Address: netip.MustParseAddr("192.168.2.77")}, 0},
		{"replication", Client{Replication: true, User: "x", Address: netip.MustParseAddr("::1")}, 11},
		{"a database of that name is none", Client{Database: "replication", User: "x", Address: netip.MustParseAddr("::1")}, 0},
		{"hostnossl", Client{Database: "x", User: "plain", Address: netip.MustParseAddr("9.9.9.9")}, 12},
		{"hostnossl with TLS", Client{TLS: true, Database: "x", User: "plain", Address: netip.MustParseAddr("9.9.9.9")}, 0},
		{"lists", Client{Database: "other", User: "x", Address: netip.MustParseAddr("fe80::1%eth0")}, 13},
	} {
		line := 0
		if rule := rules.Match(&tt.c); rule != nil {
			line = rule.Line
		}
		if line != tt.line {
			t.Errorf("%s: %+v is met by line %d, want %d", tt.name, tt.c, line, tt.line)
		}
	}
	cert := rules.list[2]
	if cert.Method != Cert || !cert.DN || cert.ClientCert != CertVerifyFull {
		t.Errorf("cert rule = %+v", cert)
	}
	if c := rules.list[3]; c.Map != "m" || c.ClientCert != CertVerifyFull || c.Method != SCRAM {
		t.Errorf("clientcert rule = %+v", c)
	}
	if rules.Match(&Client{Unix: true}) != nil && Default().Match(&Client{Unix: true}).Method != SCRAM {
		t.Error("the built-in rules ask for something else than scram-sha-256")
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"hots all all all trust":                            `f:1: connection type "hots"; allowed: local, host, hostssl`,
		"\n\nhost all":                                      "f:3: databases and users are expected",
		"host all all":                                      "f:1: one address is expected",
		"host all all 10.0.0.0 trust":                       `mask "trust" does not fit`,
		"host all all 10.0.0.0":                             `needs a mask: 10.0.0.0/32`,
		"host all all 10.0.0.0 255.0.255.0 trust":           "mask",
		"host all all 10.0.0.0/33 trust":                    "host names are not supported",
		"host all all example.com trust":                    "host names are not supported",
		"host all all all":                                  "a method is expected",
		"host all all all ldap":                             `method "ldap" is not served; allowed: scram-sha-256`,
		"host all all all cert":                             "needs the connection type hostssl",
		"host all all all peer":                             "needs the connection type local",
		"host all +admins all trust":                        "who is a member of a role is not known",
		"host samerole all all trust":                       "who is a member of a role is not known",
		"host @file all all trust":                          "lists in files are not supported",
		"host /( all all trust":                             "error parsing regexp",
		"host all all all trust map=x":                      "option map goes with",
		"host all all all trust clientcert=verify-ca":       "needs the connection type hostssl",
		"hostssl all all all trust clientcert=1":            "allowed: verify-ca",
		"hostssl all all all cert clientcert=verify-ca":     "allowed: verify-ca (not with the method cert)",
		"hostssl all all all trust clientname=XX":           "allowed, with the connection type hostssl: CN, DN",
		"hostssl all all all trust word":                    `option "word"; allowed: map=NAME`,
		"hostssl all all all trust colour=red":              `option "colour"; allowed: map`,
		`host "all all all trust`:                           "a quote is not closed",
		",host all all all trust":                           "a name is expected before the comma",
		"host all all all trust,":                           "ends with a comma",
		"host all all all trust \\":                         `the last line ends with \`,
		"include":                                           "needs the name of one file",
		"include other":                                     "files may not be included",
		"include_dir d":                                     "include_dir is not supported",
		"host all \x00 all trust":                           "zero byte",
		strings.Repeat("local all all trust\n", maxLines+1): "more than",
		strings.Repeat("#", MaxFile+1):                      "larger than",
	} {
		_, err := Parse("f", []byte(text), nil)
		var where *Error
		if err == nil || !errors.As(err, &where) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q\n got %v\nwant %q in it", text, err, want)
		}
	}
}

func TestInclude(t *testing.T) {
	files := map[string]string{
		"/etc/more": "local all all peer\ninclude deep/er", "/etc/deep/er": "host all all all broken", "/etc/loop": "include loop",
	}
	open := func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
	}
	for text, want := range map[string]string{
		"include more":                "/etc/deep/er:1: method",
		"include loop":                "/etc/loop:1: files may not be included",
		"\ninclude nowhere":           "/etc/hba:2: include: open /etc/nowhere",
		"include_if_exists nowhere":   "",
		"include_if_exists /etc/more": "/etc/deep/er:1: method",
	} {
		_, err := Parse("/etc/hba", []byte(text), open)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestMaps(t *testing.T) {
	maps, err := ParseMaps("ident", []byte(`
m  bryanh          bryanh
m  robert          bob
m  /^(.*)@corp$    \1
m  /^guest         guest
m  root            all
n  "a, b"          /^app_
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, system, role string
		want               bool
	}{
		{"", "x", "x", true}, {"", "x", "y", false}, {"m", "bryanh", "bryanh", true}, {"m", "robert", "bob", true},
		{"m", "robert", "robert", false}, {"m", "ann@corp", "ann", true}, {"m", "ann@corp", "bob", false},
		{"m", "ann@corp.evil", "ann", false}, {"m", "guest7", "guest", true}, {"m", "root", "anyone", true},
		{"n", "a, b", "app_x", true}, {"n", "a, b", "x_app_", false}, {"n", "robert", "bob", false}, {"none", "x", "x", false},
	} {
		if got := maps.Allow(tt.name, tt.system, tt.role); got != tt.want {
			t.Errorf("Allow(%q, %q, %q) = %v, want %v", tt.name, tt.system, tt.role, got, tt.want)
		}
	}
	if (*Maps)(nil).Allow("m", "x", "x") {
		t.Error("a map that does not exist allows something")
	}
	for text, want := range map[string]string{
		"one two": "three fields", "a b,c d": "lists are not allowed", "a /( d": "regexp", `a /b \1`: "has no part in parentheses",
		"a b +c": "member of a role",
	} {
		if _, err := ParseMaps("f", []byte(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzHBA(f *testing.F) {
	f.Add("local all all peer map=m\nhostssl \"a,b\",c /^x samenet cert clientname=DN", "m /^(.*)$ \\1")
	f.Add("host all all 10.0.0.0 255.0.0.0 \\\n md5 #x", "include x")
	f.Fuzz(func(t *testing.T, text, other string) {
		open := func(string) ([]byte, error) { return []byte(other), nil }
		if rules, err := Parse("f", []byte(text), open); err == nil {
			for i := range rules.list {
				if r := &rules.list[i]; r.Line < 1 || len(r.databases) == 0 || len(r.user) == 0 || r.kind != "local" && !r.anywhere && r.prefixes == nil {
					t.Fatalf("%q: rule %+v", text, r)
				}
			}
			rules.Match(&Client{TLS: true, Address: netip.MustParseAddr("10.0.0.1"), Database: other, User: other})
			rules.Match(&Client{Unix: true, Database: text, User: other})
		} else if !errors.As(err, new(*Error)) {
			t.Fatalf("%q: %v names no line", text, err)
		}
		if maps, err := ParseMaps("f", []byte(other), nil); err == nil {
			maps.Allow("m", text, other)
		}
	})
}
