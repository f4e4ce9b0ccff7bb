package netdriver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// nobody is a Door that lets nobody in.
type nobody struct{}

// noServers are never asked.
type noServers struct{ Servers }

var failure = session.Failure{SQLSTATE: "28000", Message: "nobody may log in"}

func (nobody) Login(uint32, login.Peer, *session.AuthRequest) (*login.Conversation, login.Step) {
	return nil, login.Step{Outcome: &session.AuthOutcome{Failure: failure}}
}
func (nobody) Cancel(uint32, []byte) {}
func (nobody) Stream(context.Context, router.Target, *session.AuthRequest) (*pool.Stream, *session.Failure) {
	return nil, &failure
}
func (nobody) Astray(*pool.Stream) *session.Failure { return &failure }

// selfSigned offers TLS with a certificate that nobody trusts.
func selfSigned(f *testing.F) *secure.ClientLeg {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	files := secure.Files{CertFile: filepath.Join(dir, "crt"), KeyFile: filepath.Join(dir, "key")}
	for file, block := range map[string]*pem.Block{
		files.CertFile: {Type: "CERTIFICATE", Bytes: der}, files.KeyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	leg, err := secure.NewClientLeg(secure.ClientConfig{Mode: secure.Allow, Files: files, MinVersion: tls.VersionTLS12})
	if err != nil {
		f.Fatal(err)
	}
	return leg
}

// FuzzFirstBytes: whatever a stranger says first, in whatever pieces, the connection ends, and in clear text it has heard
// nothing but answers to its requests for encryption and one error. What it hears does not depend on the pieces.
func FuzzFirstBytes(f *testing.F) {
	hello := wire.AppendStartup(nil, wire.Protocol30, "user", "u")
	ssl := []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}
	gss := []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30}
	f.Add(hello, uint8(3), true)
	f.Add(append(append(append([]byte{}, gss...), gss...), hello...), uint8(1), false)
	f.Add(append(append([]byte{}, ssl...), hello...), uint8(8), false)
	f.Add([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0}, uint8(2), true)
	f.Add([]byte{0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 1, 2, 3, 4}, uint8(4), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint8(1), false)
	leg := selfSigned(f)
	d, err := New(Config{ReadBuffer: wire.MinReadBuffer, HighWater: 64 << 10, LoginTimeout: time.Hour, Linger: time.Hour,
		Now: func() replication.Instant { return 1 }}, noServers{}, nobody{}, slog.New(slog.DiscardHandler), Hooks{
		Error: func([]byte) {}, Turned: func() {}, Console: func(context.Context, net.Conn, string, <-chan struct{}) {},
	})
	if err != nil {
		f.Fatal(err)
	}
	var view atomic.Pointer[replication.View]
	f.Fuzz(func(t *testing.T, stream []byte, step uint8, encrypts bool) {
		entry := &Entry{Session: &session.Config{Gate: new(replication.Gate), View: &view, MaxSettings: 10, Target: router.TargetAuto}}
		if encrypts {
			entry.TLS = leg
		}
		heard := converse(d, entry, stream, int(step)+1)
		answers := len(heard) - len(strings.TrimLeft(heard, "N"))
		rest := heard[answers:]
		switch {
		case answers > maxRequests:
			t.Fatalf("%d requests were answered", answers)
		case encrypts && (strings.HasPrefix(rest, "S") || len(stream) > 0 && stream[0] == tlsRecord):
			return // and TLS follows
		case rest != "" && (strings.Count(wiretest.Describe([]byte(rest)), "E(") != 1 || strings.Contains(wiretest.Describe([]byte(rest)), "torn")):
			t.Fatalf("heard %q", heard)
		}
		if whole := converse(d, entry, stream, len(stream)+1); whole != heard {
			t.Fatalf("in steps of %d: %q, at once: %q", int(step)+1, heard, whole)
		}
	})
}

// stranger says a stream in pieces, hangs up, and remembers what it hears.
type stranger struct {
	stream []byte
	step   int

	mu    sync.Mutex
	heard bytes.Buffer
}

func (s *stranger) Read(b []byte) (int, error) {
	if len(s.stream) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.stream[:min(s.step, len(s.stream))])
	s.stream = s.stream[n:]
	return n, nil
}

func (s *stranger) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.Write(b)
}

func (*stranger) Close() error                     { return nil }
func (*stranger) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*stranger) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*stranger) SetDeadline(time.Time) error      { return nil }
func (*stranger) SetReadDeadline(time.Time) error  { return nil }
func (*stranger) SetWriteDeadline(time.Time) error { return nil }

// converse returns what a stranger hears.
func converse(d *Driver, entry *Entry, stream []byte, step int) string {
	s := &stranger{stream: stream, step: step}
	d.Serve(context.Background(), s, 1, entry, Early{})
	return s.heard.String()
}
