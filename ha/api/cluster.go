package api

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// The states of a member that is well; every other word says what it does instead.
const (
	StateRunning     = "running"     // primary
	StateStreaming   = "streaming"   // standby
	StateUnreachable = "unreachable" // neither its PostgreSQL nor its agent answers
	StateStarting    = "starting"
)

// Cluster is the body of GET /v1/cluster: a contract for tools.
type Cluster struct {
	Cluster      string            `json:"cluster"`
	SystemID     string            `json:"system_id,omitempty"`
	Epoch        replication.Epoch `json:"epoch"`
	Version      uint64            `json:"version"`
	Primary      *string           `json:"primary"` // of the record; null before the first claim
	Open         bool              `json:"open"`    // the primary takes writes, as far as this process may believe
	Paused       bool              `json:"paused"`
	Handoff      *Handoff          `json:"handoff"`
	Sync         Sync              `json:"sync"`
	Members      []Member          `json:"members"`
	Proxies      []Proxy           `json:"proxies"`
	LastFailover *ha.Failover      `json:"last_failover"`
	// StoreError says why what is shown may be old: the store does not answer this process.
	StoreError string `json:"store_error,omitempty"`
}

// Handoff is a switchover in progress.
type Handoff struct {
	ID    string             `json:"id"`
	From  replication.NodeID `json:"from"`
	To    replication.NodeID `json:"to"`
	Phase ha.HandoffPhase    `json:"phase"`
}

// Sync is the durability rule in force.
type Sync struct {
	Mode   ha.SyncMode          `json:"mode"`
	Quorum int                  `json:"quorum"`
	Voters []replication.NodeID `json:"voters"`
}

// Member is one node. Role, timeline and positions are what its PostgreSQL last said of itself.
type Member struct {
	Name     replication.NodeID   `json:"name"`
	Role     string               `json:"role"`
	State    string               `json:"state"`
	Host     string               `json:"host"`
	Port     int                  `json:"port"`
	API      string               `json:"api"`
	Timeline replication.Timeline `json:"timeline"`
	Received *replication.LSN     `json:"received_lsn"` // null when not known
	Replayed *replication.LSN     `json:"replayed_lsn"`
	LagBytes *int64               `json:"lag_bytes"`
	LagMS    *int64               `json:"lag_ms"`
	// SyncState is of a standby as the primary sees it: async, potential, sync, quorum; empty for a primary.
	SyncState string            `json:"sync_state"`
	Upstream  string            `json:"upstream"` // name of the member that a standby streams from, or its host:port
	Tags      map[string]string `json:"tags"`
	Why       string            `json:"why,omitempty"` // what its agent says about what it does
}

// Proxy is one live proxy.
type Proxy struct {
	ID       string            `json:"id"`
	Addr     string            `json:"addr"`
	API      string            `json:"api,omitempty"`
	Epoch    replication.Epoch `json:"epoch"`
	Sessions int               `json:"sessions"`
	Held     int               `json:"held"`
}

// Healthy reports whether the member does what it is for.
func (m Member) Healthy() bool { return m.State == StateRunning || m.State == StateStreaming }

// Member returns the named member.
func (c Cluster) Member(name string) (Member, bool) {
	for _, m := range c.Members {
		if string(m.Name) == name {
			return m, true
		}
	}
	return Member{}, false
}

// PrimaryName returns the primary's name; empty when there is none.
func (c Cluster) PrimaryName() string {
	if c.Primary == nil {
		return ""
	}
	return *c.Primary
}

// Describe puts together what the store and the status board say. Members that have reported but are not in the record
// yet are listed too, so that a cluster that is being made can be watched.
func Describe(cluster string, s store.Snapshot, board replication.StatusBoard) Cluster {
	c := Cluster{Cluster: cluster, Sync: Sync{Voters: []replication.NodeID{}}, Members: []Member{}, Proxies: []Proxy{}}
	var record ha.Record
	if s.Record != nil {
		record = *s.Record
		c.SystemID, c.Epoch, c.Version, c.Paused = record.SystemID, record.Epoch, record.Version, record.Paused
		if record.Last != nil && record.Last.From != "" { // the first claim of all replaced nobody
			c.LastFailover = record.Last
		}
		c.Sync = Sync{Mode: record.Sync.Mode, Quorum: record.Sync.Quorum, Voters: slices.Clone(record.Sync.Voters)}
		if c.Sync.Voters == nil {
			c.Sync.Voters = []replication.NodeID{}
		}
		c.Open = record.Open && (s.Beat == nil || s.Beat.Release == nil)
		if record.Primary != "" {
			name := string(record.Primary)
			c.Primary = &name
		}
		if h := record.Handoff; h != nil {
			c.Handoff = &Handoff{ID: h.ID, From: h.From, To: h.To, Phase: h.Phase}
		}
	}
	for _, m := range record.Members {
		c.Members = append(c.Members, describeMember(m, record, s, board))
	}
	for _, report := range s.Nodes {
		if _, ok := c.Member(string(report.Name)); !ok {
			m := ha.Member{Name: report.Name, API: report.API}
			c.Members = append(c.Members, describeMember(m, record, s, board))
		}
	}
	slices.SortFunc(c.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range s.Proxies {
		c.Proxies = append(c.Proxies, Proxy{ID: p.ID, Addr: p.Addr, API: p.API, Epoch: p.Epoch, Sessions: p.Sessions, Held: p.Held})
	}
	return c
}

func describeMember(m ha.Member, record ha.Record, s store.Snapshot, board replication.StatusBoard) Member {
	status := board.Status(m.Name)
	report, alive := s.Node(m.Name)
	d := Member{
		Name: m.Name, Host: m.Host, Port: m.Port, API: m.API, Tags: m.Tags, Why: report.Why,
		Role: status.Role.String(), State: state(status, report, alive), Timeline: status.Timeline,
		Received: position(status.Received), Replayed: position(status.Replayed),
	}
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	if status.Role == replication.RoleUnknown && alive {
		d.Role, d.Timeline = cmp.Or(report.Role, d.Role), report.Timeline
		d.Received, d.Replayed = position(report.Received), position(report.Replayed)
	}
	switch status.Role {
	case replication.RolePrimary:
		if m.Name == record.Primary && status.Reachable {
			d.LagBytes, d.LagMS = new(int64), new(int64)
		}
	case replication.RoleStandby:
		d.SyncState = cmp.Or(status.SyncState, "async")
		d.Upstream = upstreamName(status.Upstream, record.Members)
		if status.Reachable && status.LagBytes >= 0 {
			d.LagBytes = &status.LagBytes
		}
		if status.Reachable && status.Lag >= 0 {
			ms := status.Lag.Milliseconds()
			d.LagMS = &ms
		}
	}
	return d
}

// state derives one word: what PostgreSQL shows by itself wins over what the agent said some time ago.
func state(status replication.Status, report ha.NodeReport, alive bool) string {
	switch {
	case status.Reachable && status.Role == replication.RolePrimary:
		return StateRunning
	case status.Reachable && status.Role == replication.RoleStandby && status.Streaming:
		return StateStreaming
	case alive && report.State != "" && report.State != StateRunning && report.State != StateStreaming:
		return report.State
	case status.Reachable || alive:
		return StateStarting
	default:
		return StateUnreachable
	}
}

func position(lsn replication.LSN) *replication.LSN {
	if !lsn.Known() {
		return nil
	}
	return &lsn
}

// upstreamName turns the address that a standby streams from into a member's name.
func upstreamName(address string, members []ha.Member) string {
	for _, m := range members {
		if address == net.JoinHostPort(m.Host, strconv.Itoa(m.Port)) {
			return string(m.Name)
		}
	}
	return address
}

// Event is one entry of GET /v1/history: how an epoch began.
type Event struct {
	Epoch    replication.Epoch    `json:"epoch"`
	From     replication.NodeID   `json:"from"`
	To       replication.NodeID   `json:"to"`
	Timeline replication.Timeline `json:"timeline"`
	ForkLSN  replication.LSN      `json:"fork_lsn"`
	At       time.Time            `json:"at"`
	Reason   string               `json:"reason"`
}

// events lists the ledger, oldest first.
func events(s store.Snapshot) []Event {
	list := make([]Event, 0, len(s.Ledger))
	for _, e := range s.Ledger {
		list = append(list, Event{
			Epoch: e.Epoch, From: e.From, To: e.Winner, Timeline: e.Timeline, ForkLSN: e.ForkLSN, At: e.Time, Reason: e.Reason,
		})
	}
	return list
}
