package store

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
)

// MemberConfig describes one embedded etcd member.
type MemberConfig struct {
	Name           string            // of this member; one of InitialCluster
	Dir            string            // its data folder, nothing else lives there
	PeerURL        string            // listened on and advertised
	ClientURL      string            // listened on and advertised
	InitialCluster map[string]string // name -> peer URL of every member, this one included
	Token          string            // tells clusters apart
	// Marker is a file beside the data directory that says that this node has been a member. StartMember writes it.
	Marker string
	// Known: this node knows its cluster from elsewhere (its PostgreSQL data directory is not empty).
	Known bool
	// Join: the folder is empty because the member was removed and added again (ReplaceMember); start it as such.
	Join bool
	// CertFile, KeyFile and CAFile serve and verify clients and peers; required unless both URLs are on loopback.
	CertFile, KeyFile, CAFile string
}

// What StartMember refuses.
var (
	// ErrEmptyStore: this node knows its cluster and its etcd folder is empty. A new store would know nothing.
	ErrEmptyStore = errors.New("etcd folder is empty although this node has been a member")
	// ErrNeedsTLS: a listener off loopback without certificates.
	ErrNeedsTLS = errors.New("store listeners off loopback need TLS")
)

// Member is an embedded etcd server.
type Member struct{}

// StartMember starts the server; Ready tells when it serves.
func StartMember(cfg MemberConfig, log *slog.Logger) (*Member, error) {
	return nil, errors.New("start member")
}

// Ready waits until the member has joined and serves.
func (m *Member) Ready(ctx context.Context) error { return nil }

// Done is closed when the server has stopped, by Close or by itself.
func (m *Member) Done() <-chan struct{} { return nil }

// Leads reports whether this member is etcd's leader.
func (m *Member) Leads() bool { return false }

// MoveLeader hands etcd's leadership to another member that is connected. It does nothing when this one does not lead,
// or is alone.
func (m *Member) MoveLeader(ctx context.Context) error { return nil }

// Close stops the server. It waits for open requests for a few seconds.
func (m *Member) Close() {}

// ReplaceMember removes the named member through the others and adds it again, so that it can start with an empty
// folder and Join. It needs a majority of the members without it.
func ReplaceMember(ctx context.Context, endpoints []string, tlsConfig *tls.Config, name, peerURL string) error {
	return nil
}
