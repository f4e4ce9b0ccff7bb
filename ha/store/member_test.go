package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication/boottime"
)

// freeURLs returns n URLs on free loopback ports.
func freeURLs(t *testing.T, n int) []string {
	t.Helper()
	var urls []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		urls = append(urls, "http://"+l.Addr().String())
	}
	return urls
}

// memberConfigs returns the configs of a cluster of n.
func memberConfigs(t *testing.T, n int) []MemberConfig {
	t.Helper()
	urls := freeURLs(t, 2*n)
	dir := t.TempDir()
	initial := map[string]string{}
	var cfgs []MemberConfig
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		initial[name] = urls[2*i]
		cfgs = append(cfgs, MemberConfig{Name: name, Dir: filepath.Join(dir, name), PeerURL: urls[2*i], ClientURL: urls[2*i+1],
			InitialCluster: initial, Token: "test", Marker: filepath.Join(dir, name+".member")})
	}
	return cfgs
}

// start starts members at once and waits until all are ready. They are closed at the end, unless they were before.
func start(t *testing.T, cfgs ...MemberConfig) []*Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var members []*Member
	for _, cfg := range cfgs {
		m, err := StartMember(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		members = append(members, m)
	}
	for _, m := range members {
		if err := m.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return members
}

func openAt(t *testing.T, cluster string, cfgs ...MemberConfig) *Store {
	t.Helper()
	var endpoints []string
	for _, cfg := range cfgs {
		endpoints = append(endpoints, cfg.ClientURL)
	}
	s, err := Open(EtcdConfig{Cluster: cluster, Endpoints: endpoints, Timeout: time.Second, Attempt: 400 * time.Millisecond,
		Clock: boottime.Now}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// eventually repeats f until it succeeds.
func eventually(t *testing.T, within time.Duration, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("not within %v: %v", within, err)
		}
		_ = sleep(ctx, 20*time.Millisecond)
	}
}

func TestEtcdConforms(t *testing.T) {
	cfg := memberConfigs(t, 1)[0]
	start(t, cfg)
	number, of := 0, (*testing.T)(nil)
	conformance{
		open: func(t *testing.T) *Store {
			if of != t { // every case has a prefix of its own
				of = t
				number++
			}
			return openAt(t, fmt.Sprintf("c%d", number), cfg)
		},
		raw: func(t *testing.T, key string, value []byte) {
			t.Helper()
			o := op{kind: opPut, key: key, value: value}
			if value == nil {
				o.kind = opDelete
			}
			must[result](t)(openAt(t, "raw", cfg).kv.txn(t.Context(), nil, []op{o}))
		},
	}.run(t)
}

// Three members serve, survive the loss of one, move leadership, take the lost one back, and restart together.
func TestThreeMembers(t *testing.T) {
	cfgs := memberConfigs(t, 3)
	members := start(t, cfgs...)
	s := openAt(t, "c", cfgs...)
	must[int64](t)(s.CreateRecord(t.Context(), sampleRecord(), 0))
	var rev int64
	beat := func(ctx context.Context, n uint64) error {
		var err error
		if rev, err = s.PutBeat(ctx, rev, ha.Beat{N: n}); err == nil {
			return nil
		}
		snap, readErr := s.Read(ctx)
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		rev = snap.BeatRev
		if snap.Beat != nil && snap.Beat.N == n {
			return nil
		}
		return err
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error { return beat(ctx, 1) })

	leader := leaderOf(t, members)
	if err := members[leader].MoveLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	if members[leader].Leads() {
		t.Error("leadership has not moved")
	}
	leader = leaderOf(t, members)
	members[leader].Close() // the worst one to lose
	eventually(t, 15*time.Second, func(ctx context.Context) error { return beat(ctx, 2) })

	members[leader] = start(t, cfgs[leader])[0]
	back := openAt(t, "c", cfgs[leader])
	eventually(t, 15*time.Second, func(ctx context.Context) error {
		snap, err := back.Read(ctx)
		if err == nil && snap.Beat.N != 2 {
			t.Errorf("the member that came back shows beat %d", snap.Beat.N)
		}
		return err
	})
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(m.Close)
	}
	wg.Wait()
	_, err := s.Read(t.Context())
	wantErr(t, err, ErrUnavailable)
	start(t, cfgs...)
	eventually(t, 15*time.Second, func(ctx context.Context) error { return beat(ctx, 3) })
}

func leaderOf(t *testing.T, members []*Member) int {
	t.Helper()
	leader := -1
	eventually(t, 15*time.Second, func(context.Context) error {
		for i, m := range members {
			if m.Leads() {
				leader = i
				return nil
			}
		}
		return errors.New("no leader")
	})
	return leader
}

// A member whose folder was lost is refused, replaced through the others, and joins.
func TestLostFolder(t *testing.T) {
	cfgs := memberConfigs(t, 3)
	members := start(t, cfgs...)
	s := openAt(t, "c", cfgs[1], cfgs[2])
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		_, err := s.CreateRecord(ctx, sampleRecord(), 0)
		if errors.Is(err, ErrConflict) {
			return nil
		}
		return err
	})
	members[0].Close()
	if err := os.RemoveAll(cfgs[0].Dir); err != nil {
		t.Fatal(err)
	}
	_, err := StartMember(cfgs[0], slog.New(slog.DiscardHandler))
	wantErr(t, err, ErrEmptyStore)
	eventually(t, 30*time.Second, func(ctx context.Context) error { // etcd wants 5 s of health before it changes members
		return ReplaceMember(ctx, []string{cfgs[0].ClientURL, cfgs[1].ClientURL, cfgs[2].ClientURL}, nil, "n1", cfgs[0].PeerURL)
	})
	cfgs[0].Join = true
	start(t, cfgs[0])
	fresh := openAt(t, "c", cfgs[0])
	eventually(t, 15*time.Second, func(ctx context.Context) error {
		snap, err := fresh.Read(ctx)
		if err == nil && snap.Record == nil {
			t.Error("the replaced member knows no record")
		}
		return err
	})
}

func TestMemberRefusals(t *testing.T) {
	cfg := memberConfigs(t, 1)[0]
	open := cfg
	open.ClientURL = "http://0.0.0.0:1"
	known := cfg
	known.Known = true
	marked := cfg
	marked.Marker = filepath.Join(t.TempDir(), "marker")
	if err := os.WriteFile(marked.Marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		cfg  MemberConfig
		want error
	}{
		{"clear text off loopback", open, ErrNeedsTLS},
		{"a node that has data", known, ErrEmptyStore},
		{"a node that was a member", marked, ErrEmptyStore},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := StartMember(test.cfg, slog.New(slog.DiscardHandler))
			wantErr(t, err, test.want)
		})
	}
}

// silent accepts connections and passes bytes on until it is told to hold its tongue: a frozen member, as a client
// sees it.
type silent struct {
	url    string
	frozen chan struct{} // closed by the test
}

func newSilent(t *testing.T, target string) *silent {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silent{url: "http://" + l.Addr().String(), frozen: make(chan struct{})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	pass := func(from, to net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				_ = to.Close()
				return
			}
			select {
			case <-s.frozen: // swallow
			default:
				_, _ = to.Write(buf[:n])
			}
		}
	}
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, client, server)
			mu.Unlock()
			wg.Go(func() { pass(client, server) })
			wg.Go(func() { pass(server, client) })
		}
	})
	return s
}

// A frozen first endpoint costs a read less than O, a write at most O, and the watch goes on elsewhere.
func TestFrozenEndpoint(t *testing.T) {
	cfg := memberConfigs(t, 1)[0]
	start(t, cfg)
	frozen := newSilent(t, cfg.ClientURL[len("http://"):])
	s := openAt(t, "c", MemberConfig{ClientURL: frozen.url}, cfg)
	writer := openAt(t, "c", MemberConfig{ClientURL: frozen.url}, cfg)
	watcher := openAt(t, "c", MemberConfig{ClientURL: frozen.url}, cfg)
	direct := openAt(t, "c", cfg)
	rev := must[int64](t)(writer.PutBeat(t.Context(), 0, ha.Beat{}))
	must[Snapshot](t)(s.Read(t.Context()))
	announced := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		watcher.Watch(ctx, func() {
			select {
			case announced <- struct{}{}:
			default:
			}
		})
	})
	<-announced
	close(frozen.frozen)

	began := time.Now()
	must[Snapshot](t)(s.Read(t.Context()))
	if took := time.Since(began); took >= time.Second {
		t.Errorf("a read took %v", took)
	}
	began = time.Now()
	_, err := writer.PutBeat(t.Context(), rev, ha.Beat{N: 1})
	wantErr(t, err, ErrUnknown)
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("a write took %v", took)
	}
	snap := must[Snapshot](t)(writer.Read(t.Context()))
	rev = must[int64](t)(writer.PutBeat(t.Context(), snap.BeatRev, ha.Beat{N: 2}))
	eventually(t, 10*time.Second, func(ctx context.Context) error { // the watch finds out by its pulse
		rev = must[int64](t)(direct.PutBeat(ctx, rev, ha.Beat{N: 3}))
		select {
		case <-announced:
			if watcher.kv.(*etcd).current.Load() == 1 {
				return nil
			}
		default:
		}
		return errors.New("not announced")
	})
}

func TestDeadEndpoint(t *testing.T) {
	cfg := memberConfigs(t, 1)[0]
	start(t, cfg)
	s := openAt(t, "c", MemberConfig{ClientURL: freeURLs(t, 1)[0]}, cfg)
	began := time.Now()
	must[int64](t)(s.PutBeat(t.Context(), 0, ha.Beat{})) // not sent to the dead one, so sent to the other
	if took := time.Since(began); took >= time.Second {
		t.Errorf("a write past a dead endpoint took %v", took)
	}
}

func TestEtcdLog(t *testing.T) {
	var out bytes.Buffer
	log := zapLogger(slog.New(slog.NewTextHandler(&out, nil)))
	for range 3 {
		log.Warn("slow fdatasync")
	}
	log.Info("chatter")
	if got := bytes.Count(out.Bytes(), []byte("\n")); got != 1 || !bytes.Contains(out.Bytes(), []byte("slow fdatasync")) {
		t.Errorf("got %s", out.String())
	}
}
