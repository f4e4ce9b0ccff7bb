package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// MemberConfig describes one embedded etcd member.
type MemberConfig struct {
	Name           string            // of this member; one of InitialCluster
	Dir            string            // its data folder, nothing else lives there
	PeerURL        string            // listened on and advertised
	ClientURL      string            // listened on and advertised
	InitialCluster map[string]string // name -> peer URL of every member, this one included
	Token          string            // tells clusters apart
	// Marker is a file beside the data directory that says that this node has been a member. The member writes it when
	// it first serves.
	Marker string
	// Known: this node knows its cluster from elsewhere (its PostgreSQL data directory belongs to it).
	Known bool
	// Join: the folder is empty because the member was removed and added again (ReplaceMember); start it as such.
	Join bool
	// CertFile, KeyFile and CAFile serve and verify clients and peers (mutual TLS); required off loopback.
	CertFile, KeyFile, CAFile string
}

// What StartMember refuses.
var (
	// ErrEmptyStore: this node knows its cluster and its etcd folder is empty. A store started anew would know nothing of
	// what was decided before.
	ErrEmptyStore = errors.New("etcd folder is empty although this node has been a member")
	// ErrNeedsTLS: a listener off loopback without certificates.
	ErrNeedsTLS = errors.New("store listeners off loopback need TLS")
)

// Limits of the embedded store. It holds some kilobytes; history is kept for one compaction period.
const (
	memberQuotaBytes    = 256 << 20
	memberKeptRevisions = "1000"
	memberSnapshotCount = 5000
	memberCatchUp       = 1000
	memberFarewell      = 1500 * time.Millisecond // for moving leadership when the member stops
)

// Member is an embedded etcd server. When its disk fails etcd ends the process, which the guard answers with a fence.
type Member struct {
	cfg     MemberConfig
	log     *slog.Logger
	etcd    *embed.Etcd
	streams context.CancelFunc // ends the streams of clients, which etcd's shutdown would wait for
	ready   chan struct{}      // closed by follow
	wg      sync.WaitGroup
	once    sync.Once

	mu  sync.Mutex
	err error // of writing the marker
}

// StartMember starts the server; Ready tells when it serves. It refuses to start a new store where there has been one.
func StartMember(cfg MemberConfig, log *slog.Logger) (*Member, error) {
	ecfg, err := memberConfig(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("start store member %s: %w", cfg.Name, err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start store member %s: %w", cfg.Name, err)
	}
	streams, cancel := context.WithCancel(context.Background()) // ends with Close: the server outlives every caller
	ecfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endWith(streams))}
	server, err := embed.StartEtcd(ecfg)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start store member %s: %w", cfg.Name, err)
	}
	m := &Member{cfg: cfg, log: log, etcd: server, streams: cancel, ready: make(chan struct{})}
	m.wg.Go(m.follow)
	return m, nil
}

// memberConfig checks the config and turns it into etcd's.
func memberConfig(cfg MemberConfig, log *slog.Logger) (*embed.Config, error) {
	if cfg.Name == "" || cfg.Dir == "" || cfg.Token == "" || cfg.InitialCluster[cfg.Name] != cfg.PeerURL {
		return nil, errors.New("name, folder, token and an initial cluster with this member are required")
	}
	peer, client, err := memberURLs(cfg)
	if err != nil {
		return nil, err
	}
	state := embed.ClusterStateFlagNew
	empty, err := isEmptyStore(cfg.Dir)
	switch {
	case err != nil:
		return nil, err
	case empty && cfg.Join:
		state = embed.ClusterStateFlagExisting
	case empty && (cfg.Known || exists(cfg.Marker)):
		return nil, fmt.Errorf("%s: %w: bring its content back, or replace the member through the others and start it with join",
			cfg.Dir, ErrEmptyStore)
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.ClusterState = cfg.Name, cfg.Dir, state
	c.InitialCluster, c.InitialClusterToken = initialCluster(cfg.InitialCluster), cfg.Token
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	if cfg.CertFile != "" {
		info := transport.TLSInfo{CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, TrustedCAFile: cfg.CAFile, ClientCertAuth: true}
		c.ClientTLSInfo, c.PeerTLSInfo = info, info
	}
	c.TickMs, c.ElectionMs = 100, 1000
	c.QuotaBackendBytes = memberQuotaBytes
	c.AutoCompactionMode, c.AutoCompactionRetention = "revision", memberKeptRevisions
	c.SnapshotCount, c.SnapshotCatchUpEntries = memberSnapshotCount, memberCatchUp
	c.MaxSnapFiles, c.MaxWalFiles = 2, 2
	c.GRPCKeepAliveMinTime = 500 * time.Millisecond
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(log))
	return c, nil
}

// memberURLs parses the two URLs and refuses clear text off loopback.
func memberURLs(cfg MemberConfig) (peer, client *url.URL, err error) {
	peer, err = url.Parse(cfg.PeerURL)
	if err != nil {
		return nil, nil, fmt.Errorf("peer url: %w", err)
	}
	client, err = url.Parse(cfg.ClientURL)
	if err != nil {
		return nil, nil, fmt.Errorf("client url: %w", err)
	}
	secure := cfg.CertFile != "" && cfg.KeyFile != "" && cfg.CAFile != ""
	for _, u := range []*url.URL{peer, client} {
		switch {
		case !secure && !isLoopback(u.Hostname()):
			return nil, nil, fmt.Errorf("%s: %w: set certificate, key and authority", u, ErrNeedsTLS)
		case secure != (u.Scheme == "https"):
			return nil, nil, fmt.Errorf("%s: certificates go with https, and only with it", u)
		}
	}
	return peer, client, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// isEmptyStore reports whether the folder holds no write-ahead log of etcd.
func isEmptyStore(dir string) (bool, error) {
	found, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", dir, err)
	}
	return len(found) == 0, nil
}

func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Lstat(path)
	return err == nil
}

func initialCluster(members map[string]string) string {
	var list []string
	for name, peer := range members {
		list = append(list, name+"="+peer)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

// follow waits until the server is ready or has stopped.
func (m *Member) follow() {
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-m.etcd.Server.StopNotify():
		return
	}
	if m.cfg.Marker != "" && !exists(m.cfg.Marker) {
		err := os.WriteFile(m.cfg.Marker, []byte(m.cfg.Token+" "+m.cfg.Name+"\n"), 0o600)
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	}
	close(m.ready)
}

// Ready waits until the member has joined a majority and serves.
func (m *Member) Ready(ctx context.Context) error {
	select {
	case <-m.ready:
	case <-m.Done():
		return fmt.Errorf("store member %s: stopped", m.cfg.Name)
	case <-ctx.Done():
		return fmt.Errorf("wait for store member %s: %w", m.cfg.Name, context.Cause(ctx))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return fmt.Errorf("mark store member %s: %w", m.cfg.Name, m.err)
	}
	return nil
}

// Done is closed when the server has stopped, by Close or by itself.
func (m *Member) Done() <-chan struct{} { return m.etcd.Server.StopNotify() }

// Leads reports whether this member is etcd's leader.
func (m *Member) Leads() bool { return m.etcd.Server.Leader() == m.etcd.Server.MemberID() }

// MoveLeader hands etcd's leadership to the member that has been connected longest. It does nothing when this member
// does not lead, or is alone. It blocks for at most some seconds.
func (m *Member) MoveLeader(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("move store leadership: %w", err)
	}
	if err := m.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
		return fmt.Errorf("move store leadership: %w", err)
	}
	return nil
}

// Close hands leadership over if that goes quickly, ends clients' streams and stops the server.
func (m *Member) Close() {
	m.once.Do(func() {
		moved := make(chan struct{})
		m.wg.Go(func() { // ends when the server stops, at the latest
			defer close(moved)
			if err := m.etcd.Server.TryTransferLeadershipOnShutdown(); err != nil {
				m.log.Debug("store leadership not moved", "err", err)
			}
		})
		select {
		case <-moved:
		case <-time.After(memberFarewell): // the others may be stopping too
		}
		m.streams()
		m.etcd.Server.HardStop() // etcd.Close alone would try again to move leadership, for 7 s
		m.etcd.Close()
		m.wg.Wait()
	})
}

// endWith ends every stream when ctx does.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		streamCtx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		stop := context.AfterFunc(ctx, cancel)
		defer stop()
		return handler(srv, endingStream{ServerStream: stream, ctx: streamCtx})
	}
}

// endingStream is a stream with another context; a grpc.ServerStream carries one by design.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context that ends with the member.
func (s endingStream) Context() context.Context { return s.ctx }
