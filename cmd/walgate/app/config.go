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
	SecretFile string `key:"secret_file" doc:"File with the secret that all members share ('walgate secret' makes one). The passwords of walgate's own roles are derived from it." example:"/etc/walgate/secret"`
}

// NodeConfig describes this member.
type NodeConfig struct {
	Name     string            `key:"name" doc:"Name of this member, unique in the cluster; also its application_name and the name of its slot." example:"node1" allowed:"lower-case letters, digits and _, at most 63"`
	Host     string            `key:"host" doc:"Address at which the other members and the proxies reach this PostgreSQL." example:"127.0.0.1"`
	DataDir  string            `key:"data_dir" doc:"PostgreSQL's data directory." example:"/var/lib/walgate/data"`
	StateDir string            `key:"state_dir" doc:"What walgate itself keeps of this node; not inside data_dir." example:"/var/lib/walgate/state"`
	RunDir   string            `key:"run_dir" doc:"Unix sockets and pid facts (node.json)."`
	LogFile  string            `key:"log_file" doc:"PostgreSQL's standard error; rotated at log_size, one old file is kept. Empty: STATE_DIR/postgres.log."`
	LogSize  Bytes             `key:"log_size" doc:"See log_file."`
	Tags     map[string]string `key:"tags" doc:"Free labels. nofailover: true keeps this node from becoming primary."`
}

// PostgresConfig describes the PostgreSQL of this node.
type PostgresConfig struct {
	BinDir                string            `key:"bin_dir" doc:"Directory with initdb, postgres, pg_basebackup and pg_rewind. Empty: the newest below /usr/lib/postgresql, then PATH."`
	Port                  int               `key:"port" doc:"Port of this PostgreSQL." allowed:"1 to 65535"`
	Listen                string            `key:"listen" doc:"listen_addresses of this PostgreSQL. Empty: node.host, and localhost."`
	Networks              []string          `key:"networks" doc:"From where clients, members and proxies may log in with a password, as prefixes such as 10.0.0.0/8; loopback always may."`
	SuperuserPasswordFile string            `key:"superuser_password_file" doc:"File with the password that the superuser postgres gets when the cluster is made." example:"/etc/walgate/superuser-password"`
	Parameters            map[string]string `key:"parameters" doc:"postgresql.conf settings of this node; those of the record (walgate config) win, those that walgate manages are refused."`
	Members               int               `key:"members" doc:"How many nodes the cluster may grow to; sizes WAL senders and slots." allowed:"1 to 64"`
	MaxSlotWAL            Bytes             `key:"max_slot_wal" doc:"How much WAL a slot of a node that is away may hold back (max_slot_wal_keep_size)."`
	CloneMaxRate          Bytes             `key:"clone_max_rate" doc:"Limit per second of a clone; 0 is no limit." allowed:"0, or 32kB to 1GB"`
	ProbeTimeout          time.Duration     `key:"probe_timeout" doc:"Limit of one probe of PostgreSQL."`
	StopGrace             time.Duration     `key:"stop_grace" doc:"WAL senders that still hang so long after a fast stop began are ended."`
	GuardLinger           time.Duration     `key:"guard_linger" doc:"How long the guard stays when it has neither a postmaster nor an agent."`
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
	Join           bool              `key:"join" doc:"The directory is empty because this member was removed and added again through the others."`
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
	KillAfter      time.Duration `key:"kill_after" doc:"PostgreSQL is dead so long after the door was shut." allowed:"at most stop_margin less 2% of ttl"`
	KillLead       time.Duration `key:"kill_lead" doc:"So long before that the agent kills it, and the guard need not." allowed:"less than kill_after"`
	Tie            time.Duration `key:"tie" doc:"Of standbys with equal positions the first by name claims; the others wait so long for it."`
	VoteWait       time.Duration `key:"vote_wait" doc:"How long the votes of all live members are awaited (sync: off)."`
	Degrade        time.Duration `key:"degrade" doc:"How long a standby that was lost stays among the synchronous ones."`
	StopTimeout    time.Duration `key:"stop_timeout" doc:"A fast shutdown of PostgreSQL that takes longer is escalated."`
	StartTimeout   time.Duration `key:"start_timeout" doc:"A start of PostgreSQL (not its recovery) that takes longer has failed."`
	Registration   time.Duration `key:"registration" doc:"A node or proxy that is gone is forgotten after this time." allowed:"2s or more"`
	MinReadGap     time.Duration `key:"min_read_gap" doc:"Least time between two reads of the store."`
	ClockMargin    time.Duration `key:"clock_margin" doc:"Taken off every right to write that a proxy holds, for drift between clocks."`
	Sync           string        `key:"sync" doc:"When a commit is acknowledged: quorum (by the primary and a standby; without any standby by the primary alone), strict (never without a standby), off." allowed:"quorum, strict, off"`
	SyncQuorum     int           `key:"sync_quorum" doc:"How many standbys must hold a commit." allowed:"1 or more"`
	MaximumLag     Bytes         `key:"maximum_lag" doc:"With sync: off, how far a standby may be behind and still be promoted."`
	OnCrash        string        `key:"on_crash" doc:"When PostgreSQL dies under a live agent: failover, restart in place, or auto (failover if a standby has everything)." allowed:"failover, restart, auto"`
	ColdStartWait  time.Duration `key:"cold_start_wait" doc:"How long members wait for the last primary when none of them may claim (sync: off)."`
	DrainTimeout   time.Duration `key:"drain_timeout" doc:"How long a switchover waits for open transactions; then they are cancelled."`
	HandoffTimeout time.Duration `key:"handoff_timeout" doc:"Limit of a whole switchover." allowed:"more than drain_timeout"`
	HandoffMaxLag  Bytes         `key:"handoff_max_lag" doc:"How far a standby may be behind when it is asked to take over."`
	RejoinWait     time.Duration `key:"rejoin_wait" doc:"How long the switchover verb waits for the old primary to stream."`
}

// ProxyConfig describes the application's endpoint.
type ProxyConfig struct {
	ID              string           `key:"id" doc:"Name of this proxy in its registration. Empty: node.name, or host name and port for 'walgate proxy'."`
	Listen          string           `key:"listen" doc:"Address that applications connect to."`
	Listeners       []ListenerConfig `key:"listeners" doc:"More addresses, each with the target of its sessions."`
	TLS             ProxyTLSConfig   `key:"tls" doc:"TLS toward applications; read again at SIGHUP. See docs/tls.md."`
	ServerTLS       ServerTLSConfig  `key:"server_tls" doc:"TLS toward PostgreSQL, for the connections of sessions; read again at SIGHUP."`
	Pool            PoolConfig       `key:"pool" doc:"Server connections. Limits count for each node by itself: docs/limits.md says what happens at each."`
	Pools           []PoolRuleConfig `key:"pools" doc:"Exceptions to pool for some databases and users; the first that matches counts. Numbers that are 0 and an empty mode are those of pool."`
	Driver          string           `key:"driver" doc:"What runs sessions in clear text: loop (epoll loops, the cheapest), goroutine, or auto: loop unless server_tls.mode asks for TLS toward PostgreSQL. Clients over TLS are always served by goroutines." allowed:"auto, loop, goroutine"`
	Loops           int              `key:"loops" doc:"How many loops, each up to one processor; 0 is half as many as there are processors." allowed:"0 to 64"`
	TCP             TCPConfig        `key:"tcp" doc:"How connections of clients and to servers find out that the other side is gone."`
	Routing         RoutingConfig    `key:"routing" doc:"Which statements run where."`
	HoldTimeout     time.Duration    `key:"hold_timeout" doc:"How long a turn waits for a server that it may run on before it gets 57P03."`
	Timeouts        TimeoutsConfig   `key:"timeouts" doc:"Limits of statements, transactions and silence, looked at once a second; 0 is none."`
	HeldSessions    int              `key:"held_sessions" doc:"Limit of sessions that wait for a primary at a time."`
	HeldBytes       Bytes            `key:"held_bytes" doc:"Limit of what those have sent."`
	MaxClients      int              `key:"max_clients" doc:"Limit of client connections."`
	LoginTimeout    time.Duration    `key:"login_timeout" doc:"Limit of a login, waiting for a primary included."`
	ShutdownTimeout time.Duration    `key:"shutdown_timeout" doc:"How long open transactions may go on when this process stops."`
	Takeover        TakeoverConfig   `key:"takeover" doc:"Replacing a running 'walgate proxy' by a new process; see docs/takeover.md. Not used by 'walgate node'."`
	Admin           AdminConfig      `key:"admin" doc:"The console: see docs/console.md."`
	Auth            AuthConfig       `key:"auth" doc:"How clients prove who they are; see docs/authentication.md."`
	Limits          LimitsConfig     `key:"limits" doc:"Bounds that seldom need a change."`
}

// ListenerConfig is one more address of the proxy.
type ListenerConfig struct {
	Network string `key:"network" doc:"Kind of address; empty means tcp." allowed:"tcp, unix"`
	Listen  string `key:"listen" doc:"HOST:PORT, or the path of a unix socket; DIR:PORT is DIR/.s.PGSQL.PORT, where libpq looks with host=DIR."`
	Target  string `key:"target" doc:"Where its sessions go." allowed:"primary, replica, auto"`

	Consistency string        `key:"consistency" doc:"Of its sessions, unless they say otherwise; empty: as for the database and user, else routing.consistency." allowed:"eventual, bounded, session, strong"`
	MaxLag      time.Duration `key:"max_lag" doc:"The same for routing.max_lag; 0 leaves it."`
	MaxLagBytes Bytes         `key:"max_lag_bytes" doc:"The same for routing.max_lag_bytes; 0 leaves it."`
	Fallback    string        `key:"fallback" doc:"The same for routing.fallback; empty leaves it." allowed:"primary, error"`

	Transactions string `key:"transactions" doc:"The same for routing.transactions; empty leaves it." allowed:"begin, lazy, reads"`

	TLS   string `key:"tls" doc:"Mode of this address; empty means proxy.tls.mode." allowed:"disable, allow, prefer, require, verify-ca, verify-full"`
	Mode  string `key:"mode" doc:"Permissions of a unix socket, in octal; empty means 0777."`
	Group string `key:"group" doc:"Group of a unix socket; empty means that of the process."`

	ReusePort bool     `key:"reuse_port" doc:"Several processes may listen on the address (SO_REUSEPORT), and the kernel spreads connections."`
	Backlog   int      `key:"backlog" doc:"Connections that wait to be accepted; 0 means as many as the kernel allows."`
	ProxyFrom []string `key:"proxy_from" doc:"Load balancers, as prefixes, whose connections begin with a header of the PROXY protocol (version 1 or 2); from anywhere else such a header is refused."`
}

// TakeoverConfig says how a new process takes over from the running one.
type TakeoverConfig struct {
	Socket string        `key:"socket" doc:"Unix socket, for its own user alone, at which the running process waits for 'walgate proxy --takeover'. Empty: takeover-LISTEN.sock in node.run_dir, if it can be made there."`
	Drain  time.Duration `key:"drain" doc:"Clients that are still connected to the old process after this time are ended as at a shutdown."`
}

// ProxyTLSConfig is TLS toward applications.
type ProxyTLSConfig struct {
	Mode       string `key:"mode" doc:"disable; allow or prefer (offered, if there is a certificate); require (clear text is refused); verify-ca (and a client certificate signed by ca_file is needed); verify-full (and its common name is the role)." allowed:"disable, allow, prefer, require, verify-ca, verify-full"`
	CertFile   string `key:"cert_file" doc:"Certificate, with intermediate ones behind it."`
	KeyFile    string `key:"key_file" doc:"Its key."`
	CAFile     string `key:"ca_file" doc:"What client certificates must be signed by."`
	MinVersion string `key:"min_version" doc:"Oldest version." allowed:"1.2, 1.3"`
}

// ServerTLSConfig is TLS toward PostgreSQL.
type ServerTLSConfig struct {
	Mode        string `key:"mode" doc:"As sslmode of libpq; verify-full compares the certificate with the host of the member." allowed:"disable, allow, prefer, require, verify-ca, verify-full"`
	CertFile    string `key:"cert_file" doc:"Certificate that PostgreSQL may ask for."`
	KeyFile     string `key:"key_file" doc:"Its key."`
	CAFile      string `key:"ca_file" doc:"What the certificates of the servers must be signed by."`
	MinVersion  string `key:"min_version" doc:"Oldest version." allowed:"1.2, 1.3"`
	Negotiation string `key:"negotiation" doc:"As sslnegotiation of libpq: postgres (a request first), direct (PostgreSQL 17; one round trip less)." allowed:"postgres, direct"`
}

// PoolConfig bounds server connections, and the clients of one database or user.
type PoolConfig struct {
	Mode               string        `key:"mode" doc:"When a server connection goes back to the pool." allowed:"transaction, session, statement"`
	Max                int           `key:"max" doc:"Limit for one (node, database, user)." allowed:"1 or more"`
	Min                int           `key:"min" doc:"So many are kept open for a (node, database, user) that has been used." allowed:"0 to max"`
	Reserve            int           `key:"reserve" doc:"So many more than max, once a session has waited for reserve_timeout." allowed:"0 or more"`
	ReserveTimeout     time.Duration `key:"reserve_timeout" doc:"See reserve."`
	MaxDatabase        int           `key:"max_database" doc:"Limit for one database of a node, over all users; 0 is none." allowed:"0 or more"`
	MaxUser            int           `key:"max_user" doc:"Limit for one user of a node, over all databases; 0 is none." allowed:"0 or more"`
	MaxNode            int           `key:"max_node" doc:"Limit for one node. Keep the sum over all proxies below its max_connections; 0 is none." allowed:"0 or more"`
	MaxDatabaseClients int           `key:"max_database_clients" doc:"Limit of client connections of one database; 0 is none." allowed:"0 or more"`
	MaxUserClients     int           `key:"max_user_clients" doc:"Limit of client connections of one user; 0 is none." allowed:"0 or more"`
	IdleTimeout        time.Duration `key:"idle_timeout" doc:"An idle server connection is closed after this time, down to min."`
	Lifetime           time.Duration `key:"lifetime" doc:"A server connection is not lent again after this time, less up to a tenth at random."`
	CheckDelay         time.Duration `key:"check_delay" doc:"A server connection that has been idle for longer is looked at (without a round trip) before it is lent; 0 is always."`
	ConnectTimeout     time.Duration `key:"connect_timeout" doc:"Limit of one attempt to connect and log in to PostgreSQL."`
	ConnectBackoff     time.Duration `key:"connect_backoff" doc:"Pause between attempts, doubled up to 16 times this, half of it at random."`
	Dials              int           `key:"dials" doc:"How many connections to one node are opened at a time." allowed:"1 or more"`
	Cancels            int           `key:"cancels" doc:"How many cancel requests are sent to one node at a time." allowed:"1 or more"`
	QueuedCancels      int           `key:"queued_cancels" doc:"How many more may wait for that; others are dropped." allowed:"1 or more"`
	ResetQuery         string        `key:"reset_query" doc:"Run on a server connection that a client in session mode has left, before another gets it."`
}

// PoolRuleConfig is what differs for some databases and users.
type PoolRuleConfig struct {
	Database           string `key:"database" doc:"Database; empty is every one."`
	User               string `key:"user" doc:"User; empty is every one."`
	Mode               string `key:"mode" doc:"As in pool." allowed:"transaction, session, statement"`
	Max                int    `key:"max" doc:"As in pool."`
	Min                int    `key:"min" doc:"As in pool; with database and user it is opened before anybody has asked, once the user's secret is known."`
	Reserve            int    `key:"reserve" doc:"As in pool."`
	MaxDatabase        int    `key:"max_database" doc:"As in pool."`
	MaxUser            int    `key:"max_user" doc:"As in pool."`
	MaxDatabaseClients int    `key:"max_database_clients" doc:"As in pool."`
	MaxUserClients     int    `key:"max_user_clients" doc:"As in pool."`

	Target      string        `key:"target" doc:"As in routing, where the listener's is auto; empty leaves it." allowed:"primary, replica, auto"`
	Consistency string        `key:"consistency" doc:"As in routing, unless the listener says it; empty leaves it." allowed:"eventual, bounded, session, strong"`
	MaxLag      time.Duration `key:"max_lag" doc:"The same; 0 leaves it."`
	MaxLagBytes Bytes         `key:"max_lag_bytes" doc:"The same; 0 leaves it."`
	Fallback    string        `key:"fallback" doc:"The same; empty leaves it." allowed:"primary, error"`

	Transactions string `key:"transactions" doc:"The same; empty leaves it." allowed:"begin, lazy, reads"`
}

// TCPConfig holds the kernel's timeouts of connections.
type TCPConfig struct {
	KeepaliveIdle     time.Duration `key:"keepalive_idle" doc:"Silence before the first probe."`
	KeepaliveInterval time.Duration `key:"keepalive_interval" doc:"Between probes."`
	KeepaliveCount    int           `key:"keepalive_count" doc:"So many unanswered probes end the connection." allowed:"1 or more"`
	UserTimeout       time.Duration `key:"user_timeout" doc:"Bytes that the other side has not acknowledged for so long end the connection (Linux); 0 leaves it to the kernel."`
}

// RoutingConfig bounds what a replica may serve.
type RoutingConfig struct {
	Target       string        `key:"target" doc:"Target of sessions on proxy.listen." allowed:"primary, replica, auto"`
	Consistency  string        `key:"consistency" doc:"What reads on a replica may miss: eventual (anything), bounded (by the limits below), session (never one's own writes), strong (nothing acknowledged)." allowed:"eventual, bounded, session, strong"`
	MaxLagBytes  Bytes         `key:"max_lag_bytes" doc:"A replica further behind serves no bounded, session or strong reads."`
	MaxLag       time.Duration `key:"max_lag" doc:"The same in time."`
	MaxStatusAge time.Duration `key:"max_status_age" doc:"What a node said of itself is not believed for longer."`
	PollWaiting  time.Duration `key:"poll_waiting" doc:"How often the positions of all nodes are asked for while a read stands still until they are known; at least as often as poll_active."`
	PollActive   time.Duration `key:"poll_active" doc:"How often for a while after reads have wanted them."`
	PollIdle     time.Duration `key:"poll_idle" doc:"How often otherwise." allowed:"at least poll_active"`
	ActiveFor    time.Duration `key:"active_for" doc:"How long one read that waits counts."`

	Wait         time.Duration `key:"wait" doc:"How long a read waits for a replica that is not known to be far enough before the primary serves it; 0 is not at all." allowed:"0 or more"`
	ReturnWait   time.Duration `key:"return_wait" doc:"How long a read waits in the same way, whatever wait is, when the session's read before it ran on a replica, or ran on the primary as well; the latter more and more seldom when that is in vain. 0 is not at all." allowed:"0 or more"`
	Fallback     string        `key:"fallback" doc:"What becomes of a read that no replica may serve: the primary serves it, or it gets an error (57P03)." allowed:"primary, error"`
	Transactions string        `key:"transactions" doc:"When a transaction that is not READ ONLY gets its server: at BEGIN (begin), with its first statement (lazy), or so that it runs on a replica until its first statement that is not surely a read (reads)." allowed:"begin, lazy, reads"`
	LostWrites   string        `key:"lost_writes" doc:"How a session is told, once, that something it has seen did not survive a failover: a warning, or an error (40001) instead of its next read." allowed:"notice, error"`
	Zone         string        `key:"zone" doc:"Reads prefer replicas whose tag zone is this. Empty: the node's own tag zone; for 'walgate proxy', none."`
	PrimaryShare int           `key:"primary_share" doc:"Percent of the reads that the primary serves although replicas might." allowed:"0 to 100"`
	ReturnAfter  time.Duration `key:"return_after" doc:"A replica that was unreachable, not streaming or too far behind gets reads again after it has been well for so long."`
	SlowStart    time.Duration `key:"slow_start" doc:"And its full share after so long; 0 is at once." allowed:"0 or more"`
	EjectAfter   int           `key:"eject_after" doc:"So many attempts to connect to a replica, or turns on it, that fail in a row for reasons of its own keep reads away from it for eject_for; 0 is never." allowed:"0 or more"`
	EjectFor     time.Duration `key:"eject_for" doc:"See eject_after; doubled, up to 16 times this, while it goes on failing."`

	CatalogRefresh    time.Duration `key:"catalog_refresh" doc:"How often the functions and views of a database in use are looked at for changes; after a CREATE, ALTER or DROP of such through this proxy they are looked at once."`
	HarmlessFunctions []string      `key:"harmless_functions" doc:"Names of volatile functions that may run on a replica all the same."`
	PrimaryFunctions  []string      `key:"primary_functions" doc:"Names of functions that run on the primary whatever they are declared to be."`
}

// TimeoutsConfig bounds what may take long.
type TimeoutsConfig struct {
	Query             time.Duration `key:"query" doc:"A statement that takes longer is cancelled (57014); the session goes on."`
	CancelGrace       time.Duration `key:"cancel_grace" doc:"If its server does not answer within this time, the server connection is closed." allowed:"more than 0"`
	Transaction       time.Duration `key:"transaction" doc:"A client whose transaction takes longer is disconnected (25P04)."`
	IdleInTransaction time.Duration `key:"idle_in_transaction" doc:"A client that is silent for longer in an open transaction is disconnected (25P03)."`
	ClientIdle        time.Duration `key:"client_idle" doc:"A client that is silent for longer outside a transaction is disconnected (57P05)."`
	QueryWait         time.Duration `key:"query_wait" doc:"How long a turn waits for a free connection of a full pool before it gets 53300; the session goes on. 0: hold_timeout."`
	QueryWaitNotify   time.Duration `key:"query_wait_notify" doc:"A client that has waited for a server for so long gets a notice."`
	Message           time.Duration `key:"message" doc:"A client that does not get to the end of a message that it has begun is disconnected (08P01); large messages have a second more for each 64 KB. Those that fit in the read buffer begin when they are whole."`
	ClientRead        time.Duration `key:"client_read" doc:"A client that has not taken what waits for it for so long is disconnected; it may keep a server connection busy all the time."`
}

// AdminConfig says what the console is and who may use it.
type AdminConfig struct {
	Databases   []string      `key:"databases" doc:"Names of databases that are the console and not of the cluster."`
	Users       []string      `key:"users" doc:"Roles that may do everything on the console."`
	StatsUsers  []string      `key:"stats_users" doc:"Roles that may use SHOW there."`
	StatsPeriod time.Duration `key:"stats_period" doc:"Over how long the averages of SHOW STATS are taken."`
}

// AuthConfig says how clients prove who they are, and where their passwords are known.
type AuthConfig struct {
	HBAFile           string        `key:"hba_file" doc:"File with rules in the syntax of pg_hba.conf; they come after those of hba. Read again at a reload. Without any rule everybody uses scram-sha-256."`
	HBA               []string      `key:"hba" doc:"The same rules, one in each element."`
	IdentFile         string        `key:"ident_file" doc:"File with maps in the syntax of pg_ident.conf, for the methods cert and peer."`
	Source            []string      `key:"source" doc:"Where passwords are known; the first that knows a role counts. cluster: PostgreSQL's own roles. file: user_file. query: the query below." allowed:"cluster, file, query"`
	UserFile          string        `key:"user_file" doc:"Secrets of roles as in PgBouncer's auth_file: on each line \"name\" \"secret\", where the secret is a SCRAM verifier, an md5 hash or a password. Passwords and md5 hashes are used toward servers too."`
	Query             string        `key:"query" doc:"For the source query: has the role's name as $1 and returns the verifier or md5 hash in the last column of its first row."`
	QueryUser         string        `key:"query_user" doc:"The role that runs the query."`
	QueryPasswordFile string        `key:"query_password_file" doc:"File with the password of query_user."`
	QueryDatabase     string        `key:"query_database" doc:"Where the query runs. Its search_path is pg_catalog: qualify names."`
	Database          string        `key:"database" doc:"Database with the function walgate.verifier(text)."`
	Refresh           time.Duration `key:"refresh" doc:"A login is decided by what the sources said at most so long ago: a changed password is known after this time, one that was changed through this proxy at once. While no source answers, what it said last holds."`
	MaxVerifiers      int           `key:"max_verifiers" doc:"Roles in the cache."`
	MaxConcurrent     int           `key:"max_concurrent" doc:"Questions for passwords, and checks of passwords in plain text, at work at the same time."`
	SCRAMIterations   int           `key:"scram_iterations" doc:"Shown to roles that do not exist; PostgreSQL's scram_iterations."`
	AllowInternal     bool          `key:"allow_internal" doc:"Let clients log in as walgate's own roles."`
}

// LimitsConfig bounds one session or server connection of the proxy.
type LimitsConfig struct {
	CollectedBytes Bytes         `key:"collected_bytes" doc:"What a turn may collect before it has a server; larger ones stream."`
	HeldReplyBytes Bytes         `key:"held_reply_bytes" doc:"How much of a reply is kept back while a misrouted statement could still be repaired."`
	Settings       int           `key:"settings" doc:"Session settings that are carried from server to server."`
	ClientPrepared int           `key:"client_prepared" doc:"Prepared statements of one client."`
	ServerPrepared int           `key:"server_prepared" doc:"Prepared statements on one server connection."`
	MetricPools    int           `key:"metric_pools" doc:"Pools (node, role, database, user) with metrics of their own, in the order of their first use; the others are summed as other."`
	GateRecheck    time.Duration `key:"gate_recheck" doc:"How soon an acknowledgement that was withheld is looked at again."`
	Logins         int           `key:"logins" doc:"Client connections that have not logged in yet, so that strangers can't take all of max_clients; more get 53300. 0: three quarters of max_clients."`
	AddressLogins  int           `key:"address_logins" doc:"The same for one address of clients; all clients behind a load balancer count as one, even if it sends PROXY headers, which are read later. 0: no limit of its own."`
	DrainLinger    time.Duration `key:"drain_linger" doc:"How long a closing session may take to write its last words."`
}

// APIConfig describes the REST API.
type APIConfig struct {
	Listen    string    `key:"listen" doc:"Address of the API."`
	Advertise string    `key:"advertise" doc:"URL at which other members and tools reach it. Empty: http://node.host:PORT."`
	TokenFile string    `key:"token_file" doc:"File with the token that unsafe verbs need (Authorization: Bearer ...). Without it they work on a loopback address only."`
	Pprof     bool      `key:"pprof" doc:"Serve profiles of this process below /debug/pprof/ to this machine; needs a loopback listen."`
	TLS       TLSConfig `key:"tls" doc:"HTTPS, on when cert_file is set; ca_file is not used."`
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
		Node:    NodeConfig{RunDir: "/run/walgate", LogSize: 64 << 20},
		Postgres: PostgresConfig{
			Port: 5432, Members: 8, MaxSlotWAL: 16 << 30, ProbeTimeout: time.Second, StopGrace: 3 * time.Second,
			GuardLinger: 10 * time.Second,
		},
		Store: StoreConfig{Embedded: EmbeddedConfig{
			PeerListen: "http://127.0.0.1:2380", ClientListen: "http://127.0.0.1:2379",
		}},
		HA: HAConfig{
			TTL: 5 * time.Second, Renew: 700 * time.Millisecond, RPCTimeout: time.Second,
			StopMargin: 2 * time.Second, KillAfter: time.Second, KillLead: 300 * time.Millisecond,
			Tie: 200 * time.Millisecond, VoteWait: 300 * time.Millisecond, Degrade: 2 * time.Second,
			StopTimeout: 20 * time.Second, StartTimeout: time.Minute, Registration: 4 * time.Second,
			MinReadGap: 20 * time.Millisecond, ClockMargin: 200 * time.Millisecond, Sync: "quorum", SyncQuorum: 1,
			MaximumLag: 1 << 20, OnCrash: "auto", ColdStartWait: time.Minute,
			DrainTimeout: 5 * time.Second, HandoffTimeout: 20 * time.Second, HandoffMaxLag: 16 << 20,
			RejoinWait: 30 * time.Second,
		},
		Proxy: ProxyConfig{
			Listen:    "127.0.0.1:6432",
			TLS:       ProxyTLSConfig{Mode: "prefer", MinVersion: "1.2"},
			ServerTLS: ServerTLSConfig{Mode: "disable", MinVersion: "1.2", Negotiation: "postgres"},
			Pool: PoolConfig{
				Mode: "transaction", Max: 20, ReserveTimeout: 5 * time.Second, IdleTimeout: 10 * time.Minute, Lifetime: time.Hour,
				CheckDelay: 5 * time.Second, ConnectTimeout: 5 * time.Second, ConnectBackoff: 100 * time.Millisecond,
				Dials: 8, Cancels: 8, QueuedCancels: 1000, ResetQuery: "DISCARD ALL",
			},
			TCP: TCPConfig{
				KeepaliveIdle: 10 * time.Second, KeepaliveInterval: 3 * time.Second, KeepaliveCount: 3, UserTimeout: 20 * time.Second,
			},
			Routing: RoutingConfig{
				Target: "auto", Consistency: "session", MaxLagBytes: 16 << 20, MaxLag: 10 * time.Second,
				MaxStatusAge: 2 * time.Second, CatalogRefresh: 10 * time.Second, PollWaiting: 3 * time.Millisecond, PollActive: 10 * time.Millisecond, PollIdle: 200 * time.Millisecond, ActiveFor: time.Second,
				ReturnWait: 15 * time.Millisecond,
				Fallback:   "primary", Transactions: "begin", LostWrites: "notice", ReturnAfter: 500 * time.Millisecond, SlowStart: 10 * time.Second,
				EjectAfter: 3, EjectFor: 10 * time.Second,
			},
			Timeouts:    TimeoutsConfig{CancelGrace: 10 * time.Second, QueryWait: 2 * time.Minute, QueryWaitNotify: 5 * time.Second, Message: time.Minute},
			Driver:      "auto",
			HoldTimeout: 30 * time.Second, HeldSessions: 10000, HeldBytes: 256 << 20, MaxClients: 10000,
			LoginTimeout: 60 * time.Second, ShutdownTimeout: 5 * time.Second, Takeover: TakeoverConfig{Drain: time.Hour},
			Admin: AdminConfig{Databases: []string{"walgate", "pgbouncer"}, Users: []string{"postgres"}, StatsPeriod: time.Minute},
			Auth: AuthConfig{
				Source: []string{"cluster"}, QueryDatabase: "postgres", Database: "postgres", Refresh: 500 * time.Millisecond, MaxVerifiers: 10000, MaxConcurrent: 16, SCRAMIterations: 4096,
			},
			Limits: LimitsConfig{
				CollectedBytes: 1 << 20, HeldReplyBytes: 64 << 10, Settings: 100, ClientPrepared: 10000,
				ServerPrepared: 1000, MetricPools: 50, GateRecheck: 50 * time.Millisecond, DrainLinger: 2 * time.Second,
			},
		},
		API: APIConfig{Listen: "127.0.0.1:8008"},
		Log: LogConfig{Level: "info", Format: "text"},
	}
}
