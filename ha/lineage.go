package ha

import (
	"cmp"
	"slices"

	"github.com/walgate/walgate/replication"
)

// Branch says which epoch's promotion made a timeline, and where it forked off. PostgreSQL numbers timelines by what
// one server knows, so two servers promoted in different epochs can choose the same number: a timeline is identified by
// the epoch it was made in, and its number is only its name.
type Branch struct {
	Epoch    replication.Epoch    `json:"epoch"` // that made it; 0: initdb
	Timeline replication.Timeline `json:"timeline"`
	Fork     replication.LSN      `json:"fork_lsn"`
	By       replication.NodeID   `json:"by,omitempty"` // who was promoted
}

// Claimed says who claimed an epoch, opened or not.
type Claimed struct {
	Epoch replication.Epoch  `json:"epoch"`
	By    replication.NodeID `json:"by"`
}

// Lineage is what a node stores beside its data directory before it follows or leads: whose WAL the directory may
// receive from then on. With it the origin of the newest WAL is known after any crash.
type Lineage struct {
	SystemID string            `json:"system_id"`
	Epoch    replication.Epoch `json:"epoch"` // whose primary is followed, or that is led
	// Primary is the primary of Epoch. A standby goes on following it by itself when it leads a later epoch, maybe
	// before its own agent knows of that.
	Primary replication.NodeID `json:"primary"`
	// Copied: the directory is a clone or has been rewound, and has not been seen consistent since. Only the primary
	// of Epoch has the WAL that it needs.
	Copied bool     `json:"copied,omitempty"`
	Chain  []Branch `json:"chain"` // of that epoch's record when it was stored: oldest first
}

// origin returns the epoch that made the newest timeline in the local directory; ok is false when that cannot be told.
func (o *Observation) origin() (origin replication.Epoch, ok bool) {
	in, rec := &o.Instance, o.Store.Record
	if rec == nil || in.Timeline == 0 || in.SystemID != rec.SystemID {
		return 0, false
	}
	l := in.Lineage
	if l == nil || l.SystemID != in.SystemID || len(l.Chain) == 0 {
		return o.ledgerOrigin(in.Timeline, rec.Epoch)
	}
	if b, found := byTimeline(l.Chain, in.Timeline); found {
		return b.Epoch, true
	}
	tip := l.Chain[len(l.Chain)-1]
	if in.Timeline < tip.Timeline {
		return o.ledgerOrigin(in.Timeline, l.Epoch)
	}
	// The timeline was made after the lineage was stored, by l.Primary, in l.Epoch or in a later one of its own.
	if rec.Epoch == l.Epoch || l.Primary == o.Self.Name {
		return l.Epoch, true // a node that promotes stores its lineage before
	}
	if b, found := byTimeline(rec.Chain, in.Timeline); found && b.Epoch >= l.Epoch && b.By == l.Primary {
		return b.Epoch, true
	}
	own, others := rec.claimedSince(l.Epoch, l.Primary)
	switch opened := tip.Epoch == l.Epoch; {
	case !own:
		return l.Epoch, !opened
	case rec.Primary == l.Primary && rec.Chain[len(rec.Chain)-1].Timeline < in.Timeline && (opened || !others):
		return rec.Epoch, true
	}
	return 0, false
}

// claimedSince reports whether the node, and whether others, claimed an epoch after the given one. Both are true when
// the record does not reach back so far.
func (r *Record) claimedSince(epoch replication.Epoch, node replication.NodeID) (own, others bool) {
	if len(r.Claims) == 0 || r.Claims[0].Epoch > epoch+1 {
		return true, true
	}
	for _, c := range r.Claims {
		own = own || c.Epoch > epoch && c.By == node
		others = others || c.Epoch > epoch && c.By != node
	}
	return own, others
}

// ledgerOrigin looks a timeline up in the record's chain and the ledger, for a directory without a lineage.
func (o *Observation) ledgerOrigin(timeline replication.Timeline, until replication.Epoch) (replication.Epoch, bool) {
	for _, b := range slices.Backward(o.Store.Record.Chain) {
		if b.Timeline == timeline && b.Epoch <= until {
			return b.Epoch, true
		}
	}
	for _, e := range slices.Backward(o.Store.Ledger) {
		if e.Timeline == timeline && e.Epoch <= until {
			return e.Epoch, true
		}
	}
	return 0, false
}

// position returns how far the local WAL reaches; ok is false when that is not known.
func (o *Observation) position() (Position, bool) {
	origin, ok := o.origin()
	return Position{origin, o.Instance.Timeline, o.Instance.End}, ok && o.Instance.End.Known()
}

// chain returns the branches that led to the local WAL.
func (o *Observation) chain() []Branch {
	rec, l := o.Store.Record, o.Instance.Lineage
	origin, _ := o.origin()
	if i := byEpoch(rec.Chain, origin); i >= 0 {
		return slices.Clone(rec.Chain[:i+1])
	}
	base := rec.Chain
	if l != nil && l.Epoch <= origin && (rec.Primary != l.Primary || l.Epoch == origin) && origin != rec.Epoch {
		base = l.Chain
	}
	by := rec.Primary
	if l != nil && l.Epoch == origin {
		by = l.Primary
	}
	var fork replication.LSN
	if n := len(o.Instance.History); n > 0 {
		fork = o.Instance.History[n-1].LSN
	}
	return extend(base, Branch{Epoch: origin, Timeline: o.Instance.Timeline, Fork: fork, By: by})
}

// byTimeline finds the branch with the timeline's number.
func byTimeline(chain []Branch, timeline replication.Timeline) (Branch, bool) {
	for _, b := range slices.Backward(chain) {
		if b.Timeline == timeline {
			return b, true
		}
	}
	return Branch{}, false
}

// byEpoch finds the index of the branch that the epoch made, -1 if it made none of them.
func byEpoch(chain []Branch, epoch replication.Epoch) int {
	return slices.IndexFunc(chain, func(b Branch) bool { return b.Epoch == epoch })
}

// copied returns what to store after a copy from the record's primary.
func (o *Observation) copied() *Lineage {
	l := o.lineage()
	l.Copied = true
	return l
}

// lineage returns what to store before following or leading in the record's epoch.
func (o *Observation) lineage() *Lineage {
	rec := o.Store.Record
	return &Lineage{SystemID: rec.SystemID, Epoch: rec.Epoch, Primary: rec.Primary, Chain: slices.Clone(rec.Chain)}
}

// Position is how far a node's WAL reaches. Positions order by the epoch that made the newest timeline, then by LSN:
// whoever holds WAL of a later epoch holds all that its claimer held when it was promoted.
type Position struct {
	Origin   replication.Epoch
	Timeline replication.Timeline
	LSN      replication.LSN
}

// Compare returns -1, 0 or +1 as p is behind, equal to or ahead of other.
func (p Position) Compare(other Position) int {
	return cmp.Or(cmp.Compare(p.Origin, other.Origin), cmp.Compare(p.LSN, other.LSN))
}

// Position returns the position that the vote tells.
func (v Vote) Position() Position { return Position{v.Origin, v.Timeline, v.LSN} }

// Position returns the flushed position that the beat tells.
func (b Beat) Position() Position { return Position{b.Origin, b.Timeline, b.Flush} }

// Position returns where the released instance ended.
func (r Release) Position() Position { return Position{r.Origin, r.Timeline, r.LSN} }

// chainKept is how many branches and claims a record carries; a node further behind is recloned or rewound by its history alone.
const chainKept = 16

// extend returns the chain with one more branch, its oldest entries forgotten.
func extend(chain []Branch, b Branch) []Branch {
	chain = append(slices.Clone(chain), b)
	if len(chain) > chainKept {
		chain = chain[len(chain)-chainKept:]
	}
	return chain
}
