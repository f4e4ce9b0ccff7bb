package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// fakeHost lets everybody in.
type fakeHost struct {
	proofs map[string]auth.Proof
	cold   bool // Admit needs a Visit first
}

func (h *fakeHost) Refuse(req *session.AuthRequest) *session.Failure {
	if req.Replication != "" {
		return &session.Failure{SQLSTATE: "0A000"}
	}
	return nil
}
func (h *fakeHost) Proved(user string, proof auth.Proof) { h.proofs[user] = proof }
func (h *fakeHost) Admit(id uint32, _ *session.AuthRequest) *session.AuthOutcome {
	if h.cold {
		return nil
	}
	return &session.AuthOutcome{OK: true, ProcessID: id}
}
func (h *fakeHost) Visit(context.Context, *Peer, *session.AuthRequest) *session.Failure {
	h.cold = false
	return nil
}

// rig is a Checker with its host.
type rig struct {
	*Checker
	now   replication.Instant // the clock
	host  *fakeHost
	users *auth.FileLookup
}

func newRig(t testing.TB, rules, maps, users string) *rig {
	t.Helper()
	return newRigWith(t, 4096, rules, maps, users)
}

func newRigWith(t testing.TB, iterations int, rules, maps, users string) *rig {
	t.Helper()
	parsed, err := hba.Parse("rules", []byte(rules), nil)
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := hba.ParseMaps("maps", []byte(maps), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{now: 1, host: &fakeHost{proofs: map[string]auth.Proof{}}, users: new(auth.FileLookup)}
	r.store(t, users)
	directory, err := auth.NewDirectory(auth.Config{
		Refresh: time.Hour, Patience: time.Second, LookupTimeout: time.Second, MaxEntries: 100, MaxConcurrent: 2,
		MockSecret: make([]byte, 16), Iterations: iterations,
	}, []auth.Lookup{r.users}, func() replication.Instant { return r.now })
	if err != nil {
		t.Fatal(err)
	}
	if r.Checker, err = NewChecker(r.host, directory, Policy{Rules: parsed, Maps: mapped}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) store(t testing.TB, users string) {
	t.Helper()
	list, err := auth.ParseUsers("users", []byte(users))
	if err != nil {
		t.Fatal(err)
	}
	r.users.Store(list)
}

// run carries a login to its end. answer is called with each Authentication message and returns the body of a password
// message.
func (r *rig) run(t testing.TB, peer Peer, name string, answer func(code uint32, data []byte) []byte) (*session.AuthOutcome, []byte) {
	t.Helper()
	c, step := r.Begin(7, peer, &session.AuthRequest{User: name, Database: "db"})
	var last []byte
	for range 20 {
		if len(step.Send) > 0 {
			last = step.Send
		}
		switch {
		case step.Outcome != nil:
			return step.Outcome, last
		case step.Block != nil:
			step = step.Block(context.Background())
		default:
			if len(step.Send) < 9 {
				t.Fatalf("neither an end nor a question: %+v", step)
			}
			step = c.Answer(answer(binary.BigEndian.Uint32(step.Send[5:]), step.Send[9:]))
		}
	}
	t.Fatal("the login does not end")
	return nil, nil
}

// scramWith answers as an independent client does; change alters its messages.
func scramWith(t testing.TB, client *scram.Client, mechanism string, binding *scram.ChannelBinding, change func(string) string) func(uint32, []byte) []byte {
	conversation := client.NewConversation()
	if binding != nil {
		conversation = client.NewConversationWithChannelBinding(*binding)
	}
	return func(code uint32, data []byte) []byte {
		if code == askSASL {
			data = nil
		}
		message, err := conversation.Step(string(data))
		if err != nil {
			t.Logf("client: %v", err)
		}
		if change != nil {
			message = change(message)
		}
		if code != askSASL {
			return []byte(message)
		}
		body := append([]byte(mechanism), 0)
		return append(binary.BigEndian.AppendUint32(body, uint32(len(message))), message...)
	}
}

var tlsPeer = Peer{UID: -1, TLS: &tls.ConnectionState{HandshakeComplete: true}, Binding: []byte("hash of the certificate")}

func clearPeer() Peer { return Peer{UID: -1, Address: netip.MustParseAddrPort("10.0.0.1:5")} }

// Against an independent SCRAM client, with and without channel binding.
func TestSCRAM(t *testing.T) {
	r := newRig(t, "host all all all scram-sha-256", "", `"app" "pencil"`)
	for _, tt := range []struct {
		name, password, mechanism string
		peer                      Peer
		binding                   []byte
		user, want                string
		change                    func(string) string
	}{
		{name: "right", password: "pencil", peer: clearPeer()},
		{name: "wrong", password: "pen", peer: clearPeer(), want: "28P01"},
		{name: "unknown", user: "nobody", password: "pencil", peer: clearPeer(), want: "28P01"},
		{name: "bound", password: "pencil", mechanism: auth.MechanismPlus, peer: tlsPeer, binding: tlsPeer.Binding},
		{name: "bound, wrong password", password: "x", mechanism: auth.MechanismPlus, peer: tlsPeer, binding: tlsPeer.Binding, want: "28P01"},
		{name: "bound to another channel", password: "pencil", mechanism: auth.MechanismPlus, peer: tlsPeer, binding: []byte("another"), want: "08P01"},
		{name: "bound without TLS", password: "pencil", mechanism: auth.MechanismPlus, peer: clearPeer(), binding: []byte("x"), want: "08P01"},
		{name: "TLS, not bound", password: "pencil", peer: tlsPeer},
		{name: "TLS, downgraded", password: "pencil", peer: tlsPeer, want: "28000",
			change: func(m string) string { return strings.Replace(m, "n,,", "y,,", 1) }},
		{name: "PLUS without binding", password: "pencil", mechanism: auth.MechanismPlus, peer: tlsPeer, want: "08P01"},
		{name: "binding without PLUS", password: "pencil", mechanism: auth.Mechanism, peer: tlsPeer, binding: tlsPeer.Binding, want: "08P01"},
		{name: "endless", password: "pencil", peer: clearPeer(), want: "08P01",
			change: func(m string) string { return m + strings.Repeat("x", MaxAnswer) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := tt.user
			if name == "" {
				name = "app"
			}
			clear(r.host.proofs)
			client, err := scram.SHA256.NewClient(name, tt.password, "")
			if err != nil {
				t.Fatal(err)
			}
			var binding *scram.ChannelBinding
			if tt.binding != nil {
				binding = &scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: tt.binding}
			}
			mechanism := tt.mechanism
			if mechanism == "" {
				mechanism = auth.Mechanism
			}
			outcome, _ := r.run(t, tt.peer, name, scramWith(t, client, mechanism, binding, tt.change))
			if outcome.OK != (tt.want == "") || outcome.Failure.SQLSTATE != tt.want {
				t.Errorf("outcome = %+v, want SQLSTATE %q", outcome, tt.want)
			}
			if _, proved := r.host.proofs[name]; proved != outcome.OK {
				t.Errorf("proved = %v although OK = %v", proved, outcome.OK)
			}
		})
	}
}

func TestOffer(t *testing.T) {
	r := newRig(t, "host all all all scram-sha-256", "", `"app" "pencil"`)
	for _, tt := range []struct {
		peer Peer
		want string
	}{{clearPeer(), auth.Offer}, {tlsPeer, auth.OfferPlus}, {Peer{TLS: &tls.ConnectionState{}}, auth.Offer}} {
		_, step := r.Begin(1, tt.peer, &session.AuthRequest{User: "app", Database: "app"})
		for step.Block != nil {
			step = step.Block(t.Context())
		}
		if got := string(step.Send[9:]); got != tt.want {
			t.Errorf("offered %q, want %q", got, tt.want)
		}
	}
}

// With warm caches no step of a SCRAM login waits.
func TestWarmLoginDoesNotBlock(t *testing.T) {
	r := newRig(t, "host all all all scram-sha-256", "", `"app" "pencil"`)
	client, err := scram.SHA256.NewClient("app", "pencil", "")
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		answer := scramWith(t, client, auth.Mechanism, nil, nil)
		c, step := r.Begin(1, clearPeer(), &session.AuthRequest{User: "app", Database: "app"})
		for step.Outcome == nil {
			switch {
			case step.Block != nil && round > 0:
				t.Fatal("a warm login blocks")
			case step.Block != nil:
				step = step.Block(t.Context())
			default:
				step = c.Answer(answer(binary.BigEndian.Uint32(step.Send[5:]), step.Send[9:]))
			}
		}
		last := append(step.Send, step.Outcome.Before...) // a login that has waited says it before
		if !step.Outcome.OK || round > 0 && (len(last) == 0 || binary.BigEndian.Uint32(last[5:]) != finalSASL) {
			t.Fatalf("last step = %+v", step)
		}
	}
}

// A password that was changed in its source counts for methods that can check it again.
func TestChangedPassword(t *testing.T) {
	r := newRig(t, "hostnossl all clear all password\nhost all all all md5", "", `"clear" "old"`+"\n"+`"hashed" "old"`)
	cleartext := func(password string) func(uint32, []byte) []byte {
		return func(uint32, []byte) []byte { return append([]byte(password), 0) }
	}
	md5 := func(password string) func(uint32, []byte) []byte {
		return func(_ uint32, salt []byte) []byte {
			return append([]byte(auth.MD5Response(auth.MD5Hash("hashed", password), [4]byte(salt))), 0)
		}
	}
	check := func(name string, answer func(uint32, []byte) []byte, want bool) {
		t.Helper()
		if outcome, _ := r.run(t, clearPeer(), name, answer); outcome.OK != want {
			t.Errorf("%s: %+v, want OK %v", name, outcome, want)
		}
	}
	check("clear", cleartext("old"), true)
	check("hashed", md5("old"), true)
	check("clear", cleartext("wrong"), false)
	check("clear", cleartext("old\x00old"), false)
	check("clear", cleartext(""), false)
	r.store(t, `"clear" "new"`+"\n"+`"hashed" "new"`)
	r.now = r.now.Add(time.Minute)
	check("clear", cleartext("new"), true)
	check("hashed", md5("new"), true)
	check("clear", cleartext("old"), false)
}

func certified(cn string, verified bool) Peer {
	certificate := &x509.Certificate{Subject: pkix.Name{CommonName: cn, Organization: []string{"Shop"}}}
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
	if verified {
		state.VerifiedChains = [][]*x509.Certificate{{certificate}}
	}
	return Peer{UID: -1, TLS: state, Address: netip.MustParseAddrPort("10.0.0.1:5")}
}

func TestCertificateAndPeer(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, `
hostssl all dn        all cert clientname=DN map=names
hostssl all mapped    all cert map=names
hostssl all both      all scram-sha-256 clientcert=verify-full
hostssl all signed    all trust clientcert=verify-ca
hostssl all all       all cert
local   all mapped    peer map=os
local   all all       peer
`, "names ann mapped\nnames \"CN=ann,O=Shop\" dn\nos "+me.Username+" mapped", "")
	unix := Peer{Unix: true, UID: os.Getuid()}
	for _, tt := range []struct {
		name string
		peer Peer
		user string
		ok   bool
	}{
		{"own name", certified("ann", true), "ann", true},
		{"other name", certified("ann", true), "bob", false},
		{"mapped", certified("ann", true), "mapped", true},
		{"not mapped", certified("bob", true), "mapped", false},
		{"whole subject", certified("ann", true), "dn", true},
		{"whole subject of another", certified("bob", true), "dn", false},
		{"not verified", certified("ann", false), "ann", false},
		{"no certificate", tlsPeer, "ann", false},
		{"no TLS", clearPeer(), "ann", false},
		{"empty name", certified("", true), "", false},
		{"signed by the authority", certified("whoever", true), "signed", true},
		{"not signed", certified("whoever", false), "signed", false},
		{"a certificate is not the password", certified("both", true), "both", false},
		{"the operating system's user", unix, me.Username, true},
		{"another user", unix, "somebody", false},
		{"mapped user", unix, "mapped", true},
		{"uid not known", Peer{Unix: true, UID: -1}, me.Username, false},
		{"uid without a name", Peer{Unix: true, UID: 1<<31 - 7}, me.Username, false},
	} {
		outcome, _ := r.run(t, tt.peer, tt.user, func(uint32, []byte) []byte { return nil })
		if outcome.OK != tt.ok {
			t.Errorf("%s: %+v, want OK %v", tt.name, outcome, tt.ok)
		}
	}
}

// Every way to be refused that depends on whether the role exists uses the same words.
func TestSameWords(t *testing.T) {
	r := newRig(t, "hostnossl all all all password", "", `"known" "secret"`+"\n"+`"hashed" "`+auth.MD5Hash("hashed", "x")+`"`)
	var words []string
	for _, name := range []string{"known", "hashed", "unknown"} {
		outcome, _ := r.run(t, clearPeer(), name, func(uint32, []byte) []byte { return []byte("wrong\x00") })
		words = append(words, strings.ReplaceAll(fmt.Sprint(outcome.Failure), name, "X"))
	}
	if words[0] != words[1] || words[0] != words[2] {
		t.Errorf("the words differ: %q", words)
	}
}

func TestColdHostIsVisited(t *testing.T) {
	r := newRig(t, "host all all all trust", "", "")
	r.host.cold = true
	if outcome, _ := r.run(t, clearPeer(), "x", nil); !outcome.OK || outcome.ProcessID != 7 {
		t.Errorf("outcome = %+v", outcome)
	}
}

// FuzzConversation answers with anything: it always ends, and nobody who does not know the password gets in.
func FuzzConversation(f *testing.F) {
	r := newRigWith(f, 1, "hostssl all all all scram-sha-256\nhostnossl all clear all password\nhost all all all md5", "",
		`"app" "pencil of 17"`+"\n"+`"clear" "pencil of 17"`+"\n"+`"hashed" "`+auth.MD5Hash("hashed", "pencil of 17")+`"`)
	first := "n,,n=,r=" + base64.StdEncoding.EncodeToString([]byte("nonce"))
	f.Add("app", true, append([]byte("SCRAM-SHA-256-PLUS\x00\x00\x00\x00\x10"), first...), []byte("c=biws,r=x,p=AAAA"))
	f.Add("clear", false, []byte("password\x00"), []byte{})
	f.Add("hashed", false, []byte("md5\x00"), []byte{0})
	f.Fuzz(func(t *testing.T, name string, overTLS bool, one, two []byte) {
		peer := clearPeer()
		if overTLS {
			peer = tlsPeer
		}
		answers := [][]byte{one, two}
		outcome, _ := r.run(t, peer, name, func(uint32, []byte) []byte {
			if len(answers) == 0 {
				return nil
			}
			next := answers[0]
			answers = answers[1:]
			return next
		})
		if outcome.OK {
			t.Fatalf("%q got in with %q %q", name, one, two)
		}
	})
}

// BenchmarkWarmLogin is the work of one login with SCRAM, the client's own included.
func BenchmarkWarmLogin(b *testing.B) {
	r := newRig(b, "host all all all scram-sha-256", "", `"app" "pencil"`)
	client, err := scram.SHA256.NewClient("app", "pencil", "")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.run(b, clearPeer(), "app", scramWith(b, client, auth.Mechanism, nil, nil))
	}
}
