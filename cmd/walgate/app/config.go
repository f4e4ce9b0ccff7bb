package app

import "time"

// Config is the configuration of one walgate process. The tags carry the key in the file, what it means (rendered into
// deploy/example.yaml and docs/configuration.md), the allowed values, and an example where the default is empty.
type Config struct {
	Cluster  ClusterConfig  `key:"cluster" doc:"The cluster that this process belongs to."`
	Node     NodeConfig     `key:"node" doc:"This member. Not used by 'walgate proxy'."`
	Postgres PostgresConfig `key:"postgres" doc:"The PostgreSQL that this node runs, and how to log in to it."`
	Store    StoreConfig    `key:"store" doc:"etcd, which holds the cluster's record: a member inside this process, or an existing etcd."`
	HA       HAConfig       `key:"ha" doc:"Leadership. Durations must satisfy 2*renew + rpc_timeout + stop_margin + 1% of ttl <= ttl."`
	Proxy    ProxyConfig    `key:"proxy" doc:"The application's endpoint."`
	API      APIConfig      `key:"api" doc:"REST API, dashboard and metrics."`
	Log      LogConfig      `key:"log" doc:"Log lines go to standard error."`
}

// ClusterConfig names the cluster.
type ClusterConfig struct {
	Name       string `key:"name" doc:"Name of the cluster; its keys in etcd lie under /walgate/NAME/."`
	SecretFile string `key:"secret_file" doc:"File with the secret that all members share ('walgate secret' makes one). The password of the replication user comes from it."`
}

// NodeConfig describes this member.
type NodeConfig struct {
	Name    string            `key:"name" doc:"Name of this member, unique in the cluster; also its application_name and the name of its slot." example:"node1" allowed:"lower-case letters, digits and _, at most 63"`
	Host    string            `key:"host" doc:"Address at which the other members and the proxies reach this PostgreSQL." example:"127.0.0.1"`
	DataDir string            `key:"data_dir" doc:"PostgreSQL's data directory." example:"/var/lib/walgate/data"`
	RunDir  string            `key:"run_dir" doc:"Unix sockets, pid facts (node.json) and the guard's socket."`
	Tags    map[string]string `key:"tags" doc:"Free labels. nofailover: true keeps this node from becoming primary."`
}

// PostgresConfig describes the PostgreSQL of this node.
type PostgresConfig struct {
	BinDir                string            `key:"bin_dir" doc:"Directory with initdb, postgres, pg_basebackup and pg_rewind. Empty: PATH, then the newest below /usr/lib/postgresql and /usr/pgsql-*."`
	OSUser                string            `key:"os_user" doc:"When walgate runs as root, PostgreSQL runs as this user."`
	Port                  int               `key:"port" doc:"Port of this PostgreSQL." allowed:"1 to 65535"`
	Listen                string            `key:"listen" doc:"listen_addresses of this PostgreSQL. Empty: node.host and localhost."`
	Superuser             string            `key:"superuser" doc:"Superuser that initdb creates and walgate logs in as."`
	SuperuserPasswordFile string            `key:"superuser_password_file" doc:"File with its password." example:"/etc/walgate/superuser-password"`
	ReplicationUser       string            `key:"replication_user" doc:"Role that standbys stream as."`
	Parameters            map[string]string `key:"parameters" doc:"postgresql.conf settings of this node; settings of the record (walgate config) win, those that walgate manages are refused."`
	HBA                   []string          `key:"hba" doc:"Lines of pg_hba.conf after those that walgate needs. Empty: SCRAM for everybody, from everywhere that listen lets in."`
	CloneMaxRate          Bytes             `key:"clone_max_rate" doc:"Limit per second of a clone; 0 is no limit." allowed:"0, or 32kB to 1GB"`
}

// StoreConfig says where etcd is.
type StoreConfig struct {
	Embedded  EmbeddedConfig `key:"embedded" doc:"An etcd member inside this process; used when data_dir is set."`
	Endpoints []string       `key:"endpoints" doc:"Client URLs of etcd. With an embedded member: those of the other members, so that this node can still ask them when its own is behind."`
	TLS       TLSConfig      `key:"tls" doc:"Needed for every store address that is not loopback."`
}

// EmbeddedConfig describes the etcd member of this node.
type EmbeddedConfig struct {
	DataDir        string            `key:"data_dir" doc:"Directory of the member." example:"/var/lib/walgate/etcd"`
	Name           string            `key:"name" doc:"Name of the member. Empty: node.name."`
	PeerListen     string            `key:"peer_listen" doc:"URL for the other members."`
	ClientListen   string            `key:"client_listen" doc:"URL for clients: nodes and sidecars."`
	InitialCluster map[string]string `key:"initial_cluster" doc:"Peer URL of every member by name, this one included; used when the store is founded. Empty: this member alone."`
}

// TLSConfig names the files of one TLS identity.
type TLSConfig struct {
	CAFile   string `key:"ca_file" doc:"Certificates that the other side must be signed by."`
	CertFile string `key:"cert_file" doc:"Own certificate."`
	KeyFile  string `key:"key_file" doc:"Key of the own certificate."`
}

// HAConfig holds the times of docs/leadership.md and the cluster-wide settings that a new record starts with.
type HAConfig struct {
	TTL            time.Duration `key:"ttl" doc:"A primary that has not renewed its beat for so long may be replaced. Cluster-wide: read when the record is made, then 'walgate config set ttl'."`
	Renew          time.Duration `key:"renew" doc:"How often the primary renews its beat."`
	RPCTimeout     time.Duration `key:"rpc_timeout" doc:"Limit of one question to etcd."`
	StopMargin     time.Duration `key:"stop_margin" doc:"The door is shut ttl - stop_margin after the last renewal."`
	KillAfter      time.Duration `key:"kill_after" doc:"PostgreSQL is killed so long after the door was shut." allowed:"less than stop_margin"`
	Sync           string        `key:"sync" doc:"When a commit is acknowledged: quorum (by the primary and a standby; without any standby by the primary alone), strict (never without a standby), off." allowed:"quorum, strict, off"`
	SyncQuorum     int           `key:"sync_quorum" doc:"How many standbys must hold a commit." allowed:"1 or more"`
	MaximumLag     Bytes         `key:"maximum_lag" doc:"With sync: off, how far a standby may be behind and still be promoted."`
	OnCrash        string        `key:"on_crash" doc:"When PostgreSQL dies under a live agent: failover, restart in place, or auto (failover if a standby has everything)." allowed:"failover, restart, auto"`
	ColdStartWait  time.Duration `key:"cold_start_wait" doc:"How long members wait for the last primary when none of them may claim (sync: off)."`
	DrainTimeout   time.Duration `key:"drain_timeout" doc:"How long a switchover waits for open transactions; then they are cancelled."`
	HandoffTimeout time.Duration `key:"handoff_timeout" doc:"Limit of a whole switchover." allowed:"more than drain_timeout"`
}

// ProxyConfig describes the application's endpoint.
type ProxyConfig struct {
	Listen           string           `key:"listen" doc:"Address that applications connect to."`
	Listeners        []ListenerConfig `key:"listeners" doc:"More addresses, each with the target of its sessions: primary, replica or auto."`
	TLS              TLSConfig        `key:"tls" doc:"TLS for clients, on when cert_file is set; ca_file asks clients for certificates."`
	ServerTLS        ServerTLSConfig  `key:"server_tls" doc:"TLS toward PostgreSQL."`
	Pool             PoolConfig       `key:"pool" doc:"Server connections for each (node, database, user)."`
	Pools            []PoolOverride   `key:"pools" doc:"Exceptions, by database and user; the first that matches counts."`
	Routing          RoutingConfig    `key:"routing" doc:"Which statements run where."`
	HoldTimeout      time.Duration    `key:"hold_timeout" doc:"How long a session waits for a primary before it gets 57P03."`
	HeldSessions     int              `key:"held_sessions" doc:"Limit of sessions that wait at a time."`
	HeldBytes        Bytes            `key:"held_bytes" doc:"Limit of what waiting sessions have sent."`
	MaxClients       int              `key:"max_clients" doc:"Limit of client connections."`
	LoginTimeout     time.Duration    `key:"login_timeout" doc:"Limit of a login."`
	MaxMessage       Bytes            `key:"max_message" doc:"Largest message of a client."`
	ServerIdle       time.Duration    `key:"server_idle" doc:"Idle server connections above the minimum are closed after this time."`
	ServerLifetime   time.Duration    `key:"server_lifetime" doc:"Server connections are replaced after this time."`
	ConnectTimeout   time.Duration    `key:"connect_timeout" doc:"Limit of a connection attempt to PostgreSQL."`
	ShutdownTimeout  time.Duration    `key:"shutdown_timeout" doc:"How long open transactions may go on when this process stops."`
	QueryWaitTimeout time.Duration    `key:"query_wait_timeout" doc:"How long a session waits for a server connection of a full pool."`
}

// ListenerConfig is one more address of the proxy.
type ListenerConfig struct {
	Listen string `key:"listen" doc:"Address."`
	Target string `key:"target" doc:"Where its sessions go." allowed:"primary, replica, auto"`
}

// ServerTLSConfig is TLS from the proxy to PostgreSQL.
type ServerTLSConfig struct {
	Mode   string `key:"mode" doc:"As libpq's sslmode." allowed:"disable, require, verify-ca, verify-full"`
	CAFile string `key:"ca_file" doc:"Certificates that PostgreSQL's must be signed by."`
}

// PoolConfig bounds the server connections of one (node, database, user).
type PoolConfig struct {
	Mode string `key:"mode" doc:"When a server connection goes back to the pool." allowed:"transaction, session, statement"`
	Min  int    `key:"min" doc:"Kept open when idle."`
	Max  int    `key:"max" doc:"Limit." allowed:"1 or more"`
}

// PoolOverride is a PoolConfig for some databases and users.
type PoolOverride struct {
	Database string `key:"database" doc:"Database; * is every one."`
	User     string `key:"user" doc:"User; * is every one."`
	Mode     string `key:"mode" doc:"As in pool." allowed:"transaction, session, statement"`
	Min      int    `key:"min" doc:"As in pool."`
	Max      int    `key:"max" doc:"As in pool." allowed:"1 or more"`
}

// RoutingConfig bounds what a replica may serve.
type RoutingConfig struct {
	Target      string        `key:"target" doc:"Target of sessions on proxy.listen." allowed:"primary, replica, auto"`
	Consistency string        `key:"consistency" doc:"What reads on a replica may miss: eventual, bounded (by the two limits below), session (sees its own writes), strong." allowed:"eventual, bounded, session, strong"`
	MaxLagBytes Bytes         `key:"max_lag_bytes" doc:"A replica further behind serves no reads."`
	MaxLag      time.Duration `key:"max_lag" doc:"A replica further behind serves no reads."`
}

// APIConfig describes the REST API.
type APIConfig struct {
	Listen    string    `key:"listen" doc:"Address of the API."`
	Advertise string    `key:"advertise" doc:"URL at which other members and tools reach it. Empty: http://node.host:PORT."`
	TokenFile string    `key:"token_file" doc:"File with the token that unsafe verbs need (Authorization: Bearer ...). Without it they work on a loopback address only."`
	TLS       TLSConfig `key:"tls" doc:"HTTPS, on when cert_file is set."`
}

// LogConfig describes the log.
type LogConfig struct {
	Level  string `key:"level" doc:"Least level." allowed:"debug, info, warn, error"`
	Format string `key:"format" doc:"Form of the lines." allowed:"text, json"`
}

// Default returns the configuration that an empty file means: the only place where defaults are.
func Default() Config {
	return Config{
		Cluster: ClusterConfig{Name: "main"},
		Node:    NodeConfig{RunDir: "/run/walgate"},
		Postgres: PostgresConfig{
			OSUser: "postgres", Port: 5432, Superuser: "postgres", ReplicationUser: "walgate_replication",
		},
		Store: StoreConfig{Embedded: EmbeddedConfig{
			PeerListen: "http://127.0.0.1:2380", ClientListen: "http://127.0.0.1:2379",
		}},
		HA: HAConfig{
			TTL: 5 * time.Second, Renew: 700 * time.Millisecond, RPCTimeout: time.Second,
			StopMargin: 2 * time.Second, KillAfter: time.Second, Sync: "quorum", SyncQuorum: 1,
			MaximumLag: 1 << 20, OnCrash: "auto", ColdStartWait: time.Minute,
			DrainTimeout: 5 * time.Second, HandoffTimeout: 20 * time.Second,
		},
		Proxy: ProxyConfig{
			Listen: "127.0.0.1:6432", ServerTLS: ServerTLSConfig{Mode: "disable"},
			Pool: PoolConfig{Mode: "transaction", Max: 20},
			Routing: RoutingConfig{
				Target: "auto", Consistency: "session", MaxLagBytes: 16 << 20, MaxLag: 10 * time.Second,
			},
			HoldTimeout: 30 * time.Second, HeldSessions: 10000, HeldBytes: 256 << 20, MaxClients: 10000,
			LoginTimeout: 15 * time.Second, MaxMessage: 1 << 30, ServerIdle: 10 * time.Minute,
			ServerLifetime: time.Hour, ConnectTimeout: 5 * time.Second, ShutdownTimeout: 5 * time.Second,
			QueryWaitTimeout: 2 * time.Minute,
		},
		API: APIConfig{Listen: "127.0.0.1:8008"},
		Log: LogConfig{Level: "info", Format: "text"},
	}
}
