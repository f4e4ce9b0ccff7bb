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
}

// Lineage is what a node stores beside its data directory before it follows or leads: whose WAL the directory may
// receive from then on. With it the origin of the newest WAL is known after any crash.
type Lineage struct {
	SystemID string            `json:"system_id"`
	Epoch    replication.Epoch `json:"epoch"` // whose primary is followed, or that is led
	Chain    []Branch          `json:"chain"` // of that epoch's record when it was stored: oldest first
}

// Origin returns the epoch that made the given timeline of a directory with this lineage; ok is false when the lineage
// cannot tell (it is nil, of another system, or does not reach back so far).
func (l *Lineage) Origin(systemID string, timeline replication.Timeline) (origin replication.Epoch, ok bool) {
	if l == nil || l.SystemID != systemID || timeline == 0 || len(l.Chain) == 0 {
		return 0, false
	}
	for _, b := range l.Chain {
		if b.Timeline == timeline {
			return b.Epoch, true
		}
	}
	if timeline > l.Chain[len(l.Chain)-1].Timeline {
		return l.Epoch, true
	}
	return 0, false
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

// chainKept is how many branches a record carries; a node further behind is recloned or rewound by its history alone.
const chainKept = 16

// extend returns the chain with one more branch, its oldest entries forgotten.
func extend(chain []Branch, b Branch) []Branch {
	chain = append(slices.Clone(chain), b)
	if len(chain) > chainKept {
		chain = chain[len(chain)-chainKept:]
	}
	return chain
}
