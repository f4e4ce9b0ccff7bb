package hba

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Method is how a client proves who it is.
type Method string

// The methods.
const (
	Trust    Method = "trust"
	Reject   Method = "reject"
	SCRAM    Method = "scram-sha-256"
	MD5      Method = "md5" // scram-sha-256 for roles that have a SCRAM verifier, as in PostgreSQL
	Password Method = "password"
	Cert     Method = "cert"
	Peer     Method = "peer"
)

// methods in the order in which errors name them, and connection types.
var (
	methods = []Method{SCRAM, MD5, Password, Cert, Peer, Trust, Reject}
	types   = []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
)

// ClientCert is what the option clientcert demands besides the method.
type ClientCert uint8

// The demands.
const (
	CertOptional   ClientCert = iota
	CertVerifyCA              // a certificate that a known authority has signed
	CertVerifyFull            // and whose name is, or is mapped to, the user
)

// Client is what a rule is chosen by.
type Client struct {
	Unix, TLS      bool
	Address        netip.Addr // unless Unix
	Database, User string
	Replication    bool // physical replication
}

// Rule is one line.
type Rule struct {
	File       string
	Line       int
	Method     Method
	Map        string // the option map; empty: the names must be equal
	ClientCert ClientCert
	DN         bool // clientname=DN: the whole subject is the client's name, not its CN
	ClearText  bool // the rule is for connections without TLS only

	kind      string
	databases names
	user      names
	anywhere  bool
	prefixes  []netip.Prefix
}

// Rules are the lines of a file in their order.
type Rules struct{ list []Rule }

// Default lets everybody in who knows the password of a role.
func Default() *Rules {
	rules, err := Parse("built-in rules", []byte("local all,replication all scram-sha-256\nhost all,replication all all scram-sha-256\n"), nil)
	if err != nil {
		panic("the built-in rules are right: " + err.Error())
	}
	return rules
}

// Parse reads rules. file is the name for errors and the folder for included files, which open reads; nil: nothing may
// be included. The error is an *Error.
func Parse(file string, content []byte, open Open) (*Rules, error) {
	r := reader{open: open}
	if err := r.read(file, content, 0); err != nil {
		return nil, err
	}
	rules := &Rules{list: make([]Rule, 0, len(r.lines))}
	for i := range r.lines {
		rule, err := parseRule(&r.lines[i])
		if err != nil {
			return nil, err
		}
		rules.list = append(rules.list, rule)
	}
	return rules, nil
}

// Then returns the rules with those of more after them.
func (r *Rules) Then(more *Rules) *Rules {
	return &Rules{list: slices.Concat(r.list, more.list)}
}

// Match returns the first rule that holds for the client; nil: none.
func (r *Rules) Match(c *Client) *Rule {
	for i := range r.list {
		if rule := &r.list[i]; rule.matches(c) {
			return rule
		}
	}
	return nil
}

func (r *Rule) matches(c *Client) bool {
	switch {
	case (r.kind == "local") != c.Unix:
		return false
	case r.kind == "hostssl" && !c.TLS, r.kind == "hostnossl" && c.TLS, r.kind == "hostgssenc":
		return false
	case !c.Unix && !r.anywhere && !contains(r.prefixes, c.Address.Unmap()):
		return false
	}
	return r.databases.databases(c) && r.user.users(c.User)
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(address.WithZone("")) {
			return true
		}
	}
	return false
}

// parseRule reads: type, databases, users, address unless the type is local, method, options.
func parseRule(l *line) (Rule, error) {
	r := Rule{File: l.file, Line: l.number, kind: l.word(0)}
	if !slices.Contains(types, r.kind) {
		return r, l.failf("connection type %q; allowed: %s", first(l.fields[0]), strings.Join(types, ", "))
	}
	if len(l.fields) < 3 {
		return r, l.failf("databases and users are expected after the connection type")
	}
	var err error
	if r.databases, err = l.parseNames(l.fields[1], "database", "all", "sameuser", "replication"); err != nil {
		return r, err
	}
	if r.user, err = l.parseNames(l.fields[2], "user", "all"); err != nil {
		return r, err
	}
	rest := l.fields[3:]
	if r.kind != "local" {
		if rest, err = r.parseAddress(l, rest); err != nil {
			return r, err
		}
	}
	if len(rest) == 0 {
		return r, l.failf("a method is expected at the end of the line; allowed: %s", allowedMethods())
	}
	r.Method = Method(first(rest[0]))
	if !slices.Contains(methods, r.Method) || len(rest[0]) != 1 {
		return r, l.failf("method %q is not served; allowed: %s", first(rest[0]), allowedMethods())
	}
	r.ClearText = r.kind == "hostnossl" || r.kind == "local"
	for _, option := range rest[1:] {
		if err := r.parseOption(l, option); err != nil {
			return r, err
		}
	}
	switch {
	case r.Method == Cert && r.kind != "hostssl":
		return r, l.failf("method cert needs the connection type hostssl")
	case r.Method == Peer && r.kind != "local":
		return r, l.failf("method peer needs the connection type local")
	case r.Method == Cert:
		r.ClientCert = CertVerifyFull
	}
	return r, nil
}

func first(field []token) string { return field[0].text }

func allowedMethods() string {
	list := make([]string, len(methods))
	for i, m := range methods {
		list[i] = string(m)
	}
	return strings.Join(list, ", ")
}

// parseAddress reads the address, and its mask if that is a field of its own, and returns the fields after it.
func (r *Rule) parseAddress(l *line, rest [][]token) ([][]token, error) {
	if len(rest) == 0 || len(rest[0]) != 1 {
		return nil, l.failf("one address is expected after the users; allowed: a prefix such as 10.0.0.0/8, an address with a mask, all, samehost, samenet")
	}
	text := first(rest[0])
	switch {
	case !rest[0][0].quoted && text == "all":
		r.anywhere = true
		return rest[1:], nil
	case !rest[0][0].quoted && (text == "samehost" || text == "samenet"):
		own, err := net.InterfaceAddrs()
		if err != nil {
			return nil, l.failf("%s: %v", text, err)
		}
		r.prefixes = local(own, text == "samehost")
		return rest[1:], nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		r.prefixes = []netip.Prefix{prefix.Masked()}
		return rest[1:], nil
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return nil, l.failf("address %q: host names are not supported; allowed: a prefix such as 10.0.0.0/8, an address with a mask, all, samehost, samenet", text)
	}
	if len(rest) < 2 {
		return nil, l.failf("address %q needs a mask: %s/%d, or a mask after it", text, text, address.BitLen())
	}
	bits, ok := maskBits(first(rest[1]), address)
	if !ok {
		return nil, l.failf("mask %q does not fit the address %q; allowed: a mask such as 255.255.255.0", first(rest[1]), text)
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return nil, l.failf("address %q: %v", text, err)
	}
	r.prefixes = []netip.Prefix{prefix}
	return rest[2:], nil
}

// maskBits reads a mask of the address's family: ones, then zeros.
func maskBits(text string, address netip.Addr) (bits int, ok bool) {
	mask, err := netip.ParseAddr(text)
	if err != nil || mask.BitLen() != address.BitLen() {
		return 0, false
	}
	ones, size := net.IPMask(mask.AsSlice()).Size()
	return ones, size != 0
}

// local lists the prefixes of this machine's interfaces, or only its own addresses.
func local(own []net.Addr, hostOnly bool) (list []netip.Prefix) {
	for _, a := range own {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue // not an IP network
		}
		if hostOnly {
			prefix = netip.PrefixFrom(prefix.Addr(), prefix.Addr().BitLen())
		}
		list = append(list, prefix.Masked())
	}
	return list
}

// parseOption reads name=value.
func (r *Rule) parseOption(l *line, option []token) error {
	name, value, ok := strings.Cut(first(option), "=")
	if !ok || len(option) != 1 {
		return l.failf("option %q; allowed: map=NAME, clientcert=verify-ca, clientcert=verify-full, clientname=CN, clientname=DN", first(option))
	}
	switch name {
	case "map":
		if r.Method != Cert && r.Method != Peer && r.ClientCert != CertVerifyFull {
			return l.failf("option map goes with the methods cert and peer, or after clientcert=verify-full")
		}
		r.Map = value
	case "clientcert":
		switch {
		case r.kind != "hostssl":
			return l.failf("option clientcert needs the connection type hostssl")
		case value == "verify-ca" && r.Method != Cert:
			r.ClientCert = CertVerifyCA
		case value == "verify-full":
			r.ClientCert = CertVerifyFull
		default:
			return l.failf("clientcert=%s; allowed: verify-ca (not with the method cert), verify-full", value)
		}
	case "clientname":
		if r.kind != "hostssl" || value != "CN" && value != "DN" {
			return l.failf("clientname=%s; allowed, with the connection type hostssl: CN, DN", value)
		}
		r.DN = value == "DN"
	default:
		return l.failf("option %q; allowed: map, clientcert, clientname", name)
	}
	return nil
}

// String names the rule in errors and logs.
func (r *Rule) String() string { return fmt.Sprintf("%s:%d", r.File, r.Line) }
