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
	// Chain is how the WAL of the primary came to be, oldest branch first; the newest ones only. Once Open, the last one is
	// that of Timeline.
	Chain   []Branch
	Paused  bool
	Handoff Handoff
	Members []Member
}

// Branch says which epoch's promotion made a timeline, and where it forked off the one before. Timelines are told apart
// by the epoch: two servers can give theirs the same number.
type Branch struct {
	Epoch    Epoch // 0: initdb made it
	Timeline Timeline
	Fork     LSN
}

// Fate is what became of a position of an earlier epoch.
type Fate uint8

// The fates.
const (
	FateUnknown  Fate = iota // it is too old to be looked up, or of a later epoch, or the fork is not known yet
	FateSurvived             // the primary's WAL contains it
	FateLost                 // it lies past the fork of a later epoch
)

// Fate tells whether what stood at the position, in the WAL that the primary of the epoch wrote, is in the primary's WAL.
func (v *View) Fate(epoch Epoch, position LSN) Fate {
	switch {
	case epoch > v.Epoch || epoch == 0:
		return FateUnknown
	case epoch == v.Epoch:
		return FateSurvived
	case !v.Open:
		return FateUnknown
	}
	known := false
	for _, b := range v.Chain {
		switch {
		case b.Epoch == epoch, b.Epoch == 0 && epoch == 1: // an epoch without a promotion writes on initdb's timeline
			known = true
		case b.Epoch > epoch && position > b.Fork:
			return FateLost
		}
	}
	switch {
	case known, len(v.Chain) == 0 && epoch+1 == v.Epoch && position <= v.ForkLSN:
		return FateSurvived
	case len(v.Chain) == 0 && epoch+1 == v.Epoch:
		return FateLost
	case len(v.Chain) > 0 && v.Chain[0].Epoch < epoch:
		return FateLost // its branch is not one of those that led here
	default:
		return FateUnknown
	}
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
