package postgres

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"time"

	"github.com/walgate/walgate/replication"
)

// The roles that walgate makes for itself. Their passwords are derived, see Secret.
const (
	RoleWalgate    = "walgate"            // superuser, internal
	RoleReplicator = "walgate_replicator" // REPLICATION
	RoleRewind     = "walgate_rewind"     // the functions that pg_rewind needs
	RoleMonitor    = "walgate_monitor"    // pg_monitor, and EXECUTE on walgate.verifier(text)
)

// Superuser is the bootstrap superuser that initdb makes; people and applications log in with it.
const Superuser = "postgres"

// Secret is what the passwords of walgate's roles are derived from; every node of a cluster has the same one. It prints
// as a placeholder.
type Secret struct {
	cluster string
	key     []byte
}

// NewSecret binds key to the cluster.
func NewSecret(cluster string, key []byte) Secret { return Secret{cluster: cluster, key: key} }

// Password returns base64url(HMAC-SHA256(key, "walgate/"+cluster+"/"+role)).
func (s Secret) Password(role string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte("walgate/" + s.cluster + "/" + role)) // hash.Hash.Write returns no error
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// String hides the secret from logs.
func (s Secret) String() string { return "[secret]" }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return "[secret]" }

// Config says which instance. Nothing is defaulted here.
type Config struct {
	Cluster string
	Node    replication.NodeID // application_name of its receiver; its slots are SlotName(Node)

	DataDir  string // PGDATA; Absent, Empty or Present
	StateDir string // what walgate owns and must persist: settings, pg_hba, passfile, markers. Not inside DataDir
	RunDir   string // sockets: PostgreSQL's and the guard's. Short, since socket paths are limited to 107 bytes
	LogFile  string // stderr of the postmaster
	BinDir   string // empty: the newest of /usr/lib/postgresql/*/bin (or the one the data directory needs), then PATH

	ListenAddresses string // listen_addresses
	Port            int
	Networks        []netip.Prefix // from which clients and members may connect with a password; loopback always may

	Secret            Secret
	SuperuserPassword string // of Superuser, set by Initdb

	Parameters map[string]string // settings of the user, checked against the deny list
	Members    int               // nodes that the cluster may grow to; sizes senders and slots
	MaxSlotWAL int64             // max_slot_wal_keep_size in bytes
	LogBytes   int64             // LogFile is rotated (one old copy) past this size

	ProbeTimeout time.Duration // of one Status
	StopGrace    time.Duration // after which StopFast ends hanging walsenders

	// GuardCommand is the argument vector that ends up in RunGuard; empty: this executable with "guard". The guard's own
	// arguments are appended.
	GuardCommand []string
	GuardLinger  time.Duration // how long a guard without postmaster and agent stays
}
