package proxy_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/router"
)

var (
	hostileCount = flag.Int("walgate.hostile", 2000, "how many connections TestHostileClients makes")
	hostileSeed  = flag.Uint64("walgate.hostile-seed", 0, "the seed of TestHostileClients; 0: any")
)

// What a proxy may need for hostile clients, however many have come: the growth of its heap and stacks, and without the
// race detector, whose own memory is not the proxy's, that of VmRSS.
const (
	hostileHeap = 32 << 20
	hostileRSS  = 64 << 20
)

func TestHostileClients(t *testing.T) {
	seed := *hostileSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (-walgate.hostile-seed)", seed)
	s := newTLSSetup(t, secure.Allow, func(c *proxy.Config) {
		c.MaxClients, c.LoginTimeout, c.DrainLinger = 300, 5*time.Second, 200*time.Millisecond
		c.Listeners = append(c.Listeners, proxy.Listener{
			Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetAuto, ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		})
	})
	addrs, err := s.setup.server.Addrs(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	served := s.serveMeanwhile(t)
	runtime.GC()
	heap, resident := heapAndStacks(), rss(t)
	var work sync.WaitGroup
	left := new(atomic.Int64)
	left.Store(int64(*hostileCount))
	for i := range uint64(16) {
		work.Go(func() {
			h := hostile{rng: rand.New(rand.NewPCG(seed, i)), plain: addrs[0].String(), balanced: addrs[1].String(), setup: s.setup}
			for left.Add(-1) >= 0 {
				h.attack()
			}
		})
	}
	work.Wait()
	if n := served(); n == 0 {
		t.Error("the well-behaved client was not served at all")
	} else {
		t.Logf("%d connections; meanwhile a well-behaved client has run %d queries", *hostileCount, n)
	}
	eventually(t, "all of them to be gone", func() bool { return len(s.setup.server.Sessions()) <= 1 }) // but for the well-behaved one
	runtime.GC()
	if grown := heapAndStacks() - heap; grown > hostileHeap {
		t.Errorf("heap and stacks have grown by %d bytes, more than %d", grown, int64(hostileHeap))
	}
	if grown := rss(t) - resident; grown > hostileRSS && !raceEnabled {
		t.Errorf("resident memory has grown by %d bytes, more than %d", grown, int64(hostileRSS))
	}
}

func heapAndStacks() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// serveMeanwhile lets a client work on one connection and log in again and again; what it returns ends that and tells how
// many queries there were. None may fail.
func (s *setup) serveMeanwhile(t *testing.T) (served func() int) {
	ctx, cancel := context.WithCancel(testContext(t))
	n := 0
	var work sync.WaitGroup
	conn := s.connect(t)
	work.Go(func() { // ends with ctx, between two rounds
		for ; ctx.Err() == nil; n++ {
			var got int
			if err := conn.QueryRow(context.WithoutCancel(ctx), "select $1::int", n).Scan(&got); err != nil || got != n {
				t.Errorf("query %d: %d, %v", n, got, err)
				return
			}
			if n%20 != 0 {
				continue
			}
			again, err := pgx.Connect(context.WithoutCancel(ctx), s.url("app", "secret", "app"))
			if err != nil {
				t.Errorf("login beside hostile clients: %v", err)
				return
			}
			_ = again.Close(context.WithoutCancel(ctx))
		}
	})
	return func() int {
		cancel()
		work.Wait()
		return n
	}
}

// hostile makes connections of the worst kind.
type hostile struct {
	rng             *rand.Rand
	plain, balanced string
	setup           *setup
}

// attack makes one connection, says something hostile, perhaps listens, and leaves.
func (h *hostile) attack() {
	addr := h.plain
	if h.rng.IntN(6) == 0 {
		addr = h.balanced
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return // out of ports: that is our own doing
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var said []byte
	switch h.rng.IntN(10) {
	case 0:
		said = h.noise(h.rng.IntN(12000))
	case 1, 2:
		said = h.mutated(startupPacket("app"))
	case 3:
		said = binary.BigEndian.AppendUint32(nil, h.length())
		said = append(said, h.noise(h.rng.IntN(100))...)
	case 4:
		said = h.requests()
	case 5:
		said = append([]byte{0x16, 3, byte(h.rng.IntN(5))}, h.noise(h.rng.IntN(600))...)
	case 6:
		said = h.mutated([]byte("PROXY TCP4 10.1.2.3 10.1.2.4 1 5432\r\n"))
		said = append(said, startupPacket("app")...)
	case 7: // a login that is never finished, with frames that come too early
		said = append(startupPacket("app"), h.mutated(saslInitial())...)
		said = append(said, h.frames()...)
	default:
		h.loggedIn()
		return
	}
	_, _ = conn.Write(said) // the proxy may have hung up already
	if h.rng.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}
}

// loggedIn logs in before it turns hostile.
func (h *hostile) loggedIn() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l, err := dialLeak(ctx, h.setup.url("app", "secret", "app"), nil, 10*time.Second)
	if err != nil {
		return // the limit of logins; the well-behaved client may not meet it, its neighbours may
	}
	defer func() { _ = l.conn.Close() }()
	_ = l.conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = l.conn.Write(h.frames())
	if h.rng.IntN(2) == 0 {
		_ = l.conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, l.conn)
	}
}

func (h *hostile) noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.rng.Uint32())
	}
	return b
}

// length is one that nobody should send.
func (h *hostile) length() uint32 {
	return []uint32{0, 1, 3, 4, 7, 8, 10001, 1 << 16, 1 << 20, 1 << 30, 1<<30 + 4, 1<<31 - 1, 1 << 31, 1<<32 - 1}[h.rng.IntN(14)]
}

// mutated changes some bytes, cuts some off and puts some in.
func (h *hostile) mutated(b []byte) []byte {
	b = append([]byte{}, b...)
	for range 1 + h.rng.IntN(4) {
		at := h.rng.IntN(len(b))
		switch h.rng.IntN(4) {
		case 0:
			b[at] = byte(h.rng.Uint32())
		case 1:
			b = b[:at+1]
		case 2:
			b = append(b[:at:at], append(h.noise(h.rng.IntN(20)), b[at:]...)...)
		default:
			if len(b) >= at+4 {
				binary.BigEndian.PutUint32(b[at:], h.length())
			}
		}
	}
	return b
}

// requests asks for encryption again and again.
func (h *hostile) requests() (b []byte) {
	for range 1 + h.rng.IntN(50) {
		b = append(b, 0, 0, 0, 8, 0x04, 0xd2, 0x16, byte(0x2e+h.rng.IntN(3)))
	}
	return append(b, startupPacket("app")...)
}

// frames are messages of a session, most of them wrong.
func (h *hostile) frames() (b []byte) {
	for range 1 + h.rng.IntN(5) {
		switch h.rng.IntN(7) {
		case 0: // 1 GB is announced, and does not come
			b = append(binary.BigEndian.AppendUint32(append(b, "QPBdF"[h.rng.IntN(5)]), 1<<30-1), h.noise(h.rng.IntN(3000))...)
			return b
		case 1:
			b = binary.BigEndian.AppendUint32(append(b, "QPBDECSHdcfFpX"[h.rng.IntN(14)]), h.length())
			b = append(b, h.noise(h.rng.IntN(40))...)
		case 2: // absurd counts
			body := append([]byte("\x00\x00"), 0xff, 0xff)
			body = append(body, h.noise(h.rng.IntN(60))...)
			b = append(binary.BigEndian.AppendUint32(append(b, 'B'), uint32(len(body)+4)), body...)
		case 3:
			b = append(b, byte(h.rng.Uint32()), 0, 0, 0, 4)
		case 4:
			b = append(b, h.mutated(encoded(&pgproto3.Parse{Name: "a", Query: "select $1::int", ParameterOIDs: []uint32{23}}))...)
		case 5:
			b = append(b, h.mutated(encoded(&pgproto3.Query{String: "select 1; begin; copy (select 1) to stdout"}))...)
		default:
			b = append(b, encoded(&pgproto3.Sync{})...)
		}
	}
	return b
}

func encoded(m pgproto3.Message) []byte {
	b, err := m.Encode(nil)
	if err != nil {
		panic(fmt.Sprintf("%T can't be encoded: %v", m, err))
	}
	return b
}

func startupPacket(user string) []byte {
	return encoded(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": user, "database": "app"}})
}

func saslInitial() []byte {
	return encoded(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=abcdefghijklmnop")})
}
