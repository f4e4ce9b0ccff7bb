package replication

// View is what the record of the cluster says, as proxies see it: authoritative, immutable once published, and
// ordered by Version. The zero View knows no primary.
type View struct {
	Cluster  string
	Version  uint64
	Epoch    Epoch
	Primary  NodeID // who claimed Epoch; empty before the first claim
	Timeline Timeline
	// Open tells that the primary of Epoch is out of recovery and may take writes. Between claim and promotion it is
	// false: turns that need the primary are held.
	Open bool
	// ForkLSN is where Timeline forked off its parent. Tokens at or before it survive the change of primary.
	ForkLSN LSN
	Paused  bool
	Handoff Handoff
	Members []Member
}

// Handoff is a planned change of primary in progress; the zero Handoff means none.
type Handoff struct {
	ID   string
	From NodeID
	To   NodeID
	// Draining tells proxies to start no transaction on the primary and to report themselves dry.
	Draining bool
	// CancelOpen tells proxies to end with SQLSTATE 57P01 the transactions that are still open.
	CancelOpen bool
}

// Member is one node of the cluster as clients and proxies reach it.
type Member struct {
	Name NodeID
	Host string // address of its PostgreSQL
	Port int
	API  string // base URL of its REST API
	Tags map[string]string
}

// Writable reports whether statements that write may run on the primary now.
func (v View) Writable() bool { return v.Primary != "" && v.Open && !v.Handoff.Draining }

// Member returns the named member.
func (v View) Member(name NodeID) (Member, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}
