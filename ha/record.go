package ha

import (
	"time"

	"github.com/walgate/walgate/replication"
)

// SyncMode says when a commit may be acknowledged.
type SyncMode string

// The synchronous modes. Quorum degrades to asynchronous when no standby is left, Strict never does.
const (
	SyncOff    SyncMode = "off"
	SyncQuorum SyncMode = "quorum"
	SyncStrict SyncMode = "strict"
)

// Sync is the durability rule in force. Invariant: every commit acknowledged under synchronous_standby_names
// 'ANY Quorum (S)' has S ⊆ Voters or a superset of the votes needed; see docs/leadership.md, "Order of changes".
type Sync struct {
	Mode   SyncMode             `json:"mode"`
	Quorum int                  `json:"quorum"` // k of ANY k (Voters)
	Voters []replication.NodeID `json:"voters"` // sorted; empty: nobody but the last holder may claim (synchronous modes)
}

// Member is one node as the record knows it.
type Member struct {
	Name replication.NodeID `json:"name"`
	Host string             `json:"host"` // of its PostgreSQL
	Port int                `json:"port"`
	API  string             `json:"api"`
	Tags map[string]string  `json:"tags,omitempty"`
}

// HandoffPhase is how far a planned switchover has come.
type HandoffPhase string

// The phases, in order. Each is entered by the primary's agent writing the record.
const (
	HandoffPrepare HandoffPhase = "prepare" // checkpoint in the background, clients unaffected
	HandoffDrain   HandoffPhase = "drain"   // proxies start no transaction and report themselves dry
	HandoffCancel  HandoffPhase = "cancel"  // proxies end what is still open with 57P01
	HandoffStop    HandoffPhase = "stop"    // all dry: PostgreSQL is being stopped, there is no way back
)

// Handoff is a planned change of primary: a field of the record, not a procedure. Durations are counted by each
// observer from the moment it first saw the handoff, on its own clock.
type Handoff struct {
	ID           string             `json:"id"`
	From         replication.NodeID `json:"from"`
	To           replication.NodeID `json:"to"`
	Phase        HandoffPhase       `json:"phase"`
	DrainTimeout time.Duration      `json:"drain_timeout"` // then: cancel what is open, or call off
	CancelOpen   bool               `json:"cancel_open"`   // after DrainTimeout: true cancels, false calls off
	Deadline     time.Duration      `json:"deadline"`      // all of it; before the stop it is called off, after it anyone may claim
}

// Failover is the newest change of primary, for people and tools.
type Failover struct {
	Epoch   replication.Epoch  `json:"epoch"`
	From    replication.NodeID `json:"from"`
	To      replication.NodeID `json:"to"`
	At      time.Time          `json:"at"`
	Reason  string             `json:"reason"`
	PauseMS int64              `json:"pause_ms"` // from the last proof of life of the old primary to the open door
}

// Settings are the cluster-wide settings, edited in the record.
type Settings struct {
	TTL           time.Duration     `json:"ttl"`             // a beat unchanged this long has expired
	MaximumLag    int64             `json:"maximum_lag"`     // bytes a candidate may be behind the last beat, asynchronous mode
	OnCrash       string            `json:"on_crash"`        // failover, restart or auto
	ColdStartWait time.Duration     `json:"cold_start_wait"` // how long to wait for the last holder when no claim qualifies
	Parameters    map[string]string `json:"parameters,omitempty"`
}

// Record is the replicated truth: one small value in the store, changed only by compare-and-swap.
type Record struct {
	Version  uint64               `json:"version"` // +1 at each write
	Cluster  string               `json:"cluster"`
	SystemID string               `json:"system_id"` // of pg_control; set by whoever ran initdb
	Epoch    replication.Epoch    `json:"epoch"`
	Primary  replication.NodeID   `json:"primary"` // who claimed Epoch
	Timeline replication.Timeline `json:"timeline"`
	ForkLSN  replication.LSN      `json:"fork_lsn"`
	// Chain is how the WAL of the primary came to be: the branches up to the claimer's newest timeline at its claim,
	// and from the open door on the epoch's own. Oldest first, the newest 16.
	Chain []Branch `json:"chain"`
	// Claims are the newest 16 claims, oldest first, opened or not.
	Claims []Claimed `json:"claims,omitempty"`
	// ClaimLSN is how far the claimer's WAL reached, on the newest branch of Chain, when it claimed Epoch.
	ClaimLSN replication.LSN `json:"claim_lsn"`
	// Open: the ledger has the entry of Epoch, PostgreSQL is out of recovery (and, in synchronous modes, k standbys
	// hold its end-of-recovery position): clients may write.
	Open     bool      `json:"open"`
	Members  []Member  `json:"members"` // sorted by name
	Sync     Sync      `json:"sync"`
	Handoff  *Handoff  `json:"handoff,omitempty"`
	Paused   bool      `json:"paused"`
	Settings Settings  `json:"settings"`
	Last     *Failover `json:"last_failover,omitempty"`
	// Votes are those the claim counted, until the ledger has them.
	Votes []Vote `json:"votes,omitempty"`
}

// ReleaseKind says how a primary ended.
type ReleaseKind string

// The kinds of release.
const (
	ReleaseClean ReleaseKind = "clean" // PostgreSQL shut down, its shutdown checkpoint reached the standbys it could
	ReleaseCrash ReleaseKind = "crash" // PostgreSQL is dead to the last process; LSN is the end of valid WAL on its disk
)

// Release is the last will in a holder's final beat: PostgreSQL of this epoch runs nowhere any more, so nobody need
// wait for the beat to expire.
type Release struct {
	Kind     ReleaseKind          `json:"kind"`
	Origin   replication.Epoch    `json:"origin"` // the epoch that made Timeline
	Timeline replication.Timeline `json:"timeline"`
	LSN      replication.LSN      `json:"lsn"`
	To       replication.NodeID   `json:"to,omitempty"` // clean handoff: only this node may claim until the handoff's deadline
}

// Beat is the primary's proof of life, rewritten by compare-and-swap every renew period.
type Beat struct {
	Epoch    replication.Epoch    `json:"epoch"`
	Holder   replication.NodeID   `json:"holder"`
	Nonce    string               `json:"nonce"` // of this incarnation of the holder's agent
	N        uint64               `json:"n"`
	Origin   replication.Epoch    `json:"origin"` // the epoch that made Timeline
	Timeline replication.Timeline `json:"timeline"`
	Flush    replication.LSN      `json:"flush_lsn"` // the primary's flush position when last sampled
	// TTL is how long the holder counts on this beat. Whoever waits for its expiry waits this long at least: the setting
	// in the record may have changed meanwhile.
	TTL     time.Duration `json:"ttl"`
	Release *Release      `json:"release,omitempty"`
}

// Vote is a promise: Node's WAL receiver is gone, it holds WAL up to LSN, and it acknowledges nothing to the primary of
// the epoch before Epoch until the epoch has risen or it has deleted this vote.
type Vote struct {
	Epoch    replication.Epoch    `json:"epoch"` // the epoch to be claimed
	Node     replication.NodeID   `json:"node"`
	Origin   replication.Epoch    `json:"origin"` // the epoch that made Timeline
	Timeline replication.Timeline `json:"timeline"`
	LSN      replication.LSN      `json:"lsn"` // flushed
	// Withdrawn takes the promise back. The key is never deleted before its epoch has passed: a vote that is still on
	// its way to the store must fail its compare.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// LedgerEntry tells for ever how an epoch began. An epoch without an entry never accepted a write.
type LedgerEntry struct {
	Epoch    replication.Epoch    `json:"epoch"`
	Timeline replication.Timeline `json:"timeline"`
	ForkLSN  replication.LSN      `json:"fork_lsn"`
	NextXID  uint64               `json:"next_xid"` // before promotion: xids at or past it never committed earlier
	SystemID string               `json:"system_id"`
	Winner   replication.NodeID   `json:"winner"`
	From     replication.NodeID   `json:"from"`
	Reason   string               `json:"reason"`
	Votes    []Vote               `json:"votes,omitempty"`
	Time     time.Time            `json:"time"`
}

// ProxyReport is what a live proxy says of itself in its registration.
type ProxyReport struct {
	ID        string            `json:"id"`
	Addr      string            `json:"addr"`
	API       string            `json:"api,omitempty"`
	Epoch     replication.Epoch `json:"epoch"`
	Sessions  int               `json:"sessions"`
	Held      int               `json:"held"`
	HandoffID string            `json:"handoff_id,omitempty"` // the drain it is carrying out
	OpenTx    int               `json:"open_tx"`              // turns and transactions still open on the primary
}

// NodeReport is what a live node says of itself in its registration: advisory.
type NodeReport struct {
	Name     replication.NodeID   `json:"name"`
	API      string               `json:"api"`
	State    string               `json:"state"` // running, streaming, starting, cloning, rewinding, stopped, ...
	Role     string               `json:"role"`
	Timeline replication.Timeline `json:"timeline"`
	Received replication.LSN      `json:"received_lsn"`
	Replayed replication.LSN      `json:"replayed_lsn"`
	Why      string               `json:"why"`
}

// View returns the record as proxies see it.
func (r Record) View() replication.View {
	v := replication.View{
		Cluster: r.Cluster, Version: r.Version, Epoch: r.Epoch, Primary: r.Primary, Timeline: r.Timeline,
		Open: r.Open, ForkLSN: r.ForkLSN, Paused: r.Paused,
	}
	if h := r.Handoff; h != nil {
		v.Handoff = replication.Handoff{
			ID: h.ID, From: h.From, To: h.To,
			Draining:   h.Phase == HandoffDrain || h.Phase == HandoffCancel || h.Phase == HandoffStop,
			CancelOpen: h.Phase == HandoffCancel,
		}
	}
	for _, b := range r.Chain {
		v.Chain = append(v.Chain, replication.Branch{Epoch: b.Epoch, Timeline: b.Timeline, Fork: b.Fork})
	}
	for _, m := range r.Members {
		v.Members = append(v.Members, replication.Member(m))
	}
	return v
}
