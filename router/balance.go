package router

import (
	"math/bits"
	"strconv"
	"time"

	"github.com/walgate/walgate/replication"
)

// Balance says how reads are spread over the standbys that may serve them.
type Balance struct {
	Zone         string        // the proxy's own; empty: none
	PrimaryShare int           // percent of the reads that the primary serves although standbys might
	SlowStart    time.Duration // a standby that has come back gets its share only after this; 0: at once
}

// Traits is what the tags of a member say about balancing.
type Traits struct {
	NoLoadBalance bool
	Weight        uint32 // in thousandths; 0 counts as 1000
	Zone          string
}

// TraitsOf reads the tags of a member. What can't be read counts as absent.
func TraitsOf(m *replication.Member) Traits {
	t := Traits{NoLoadBalance: m.Tags[TagNoLoadBalance] == "true", Zone: m.Tags[TagZone], Weight: unit}
	if w, err := strconv.ParseFloat(m.Tags[TagWeight], 64); err == nil && w > 0 && w <= maxWeight {
		t.Weight = max(uint32(w*unit), 1)
	}
	return t
}

// unit is a weight of 1.
const (
	unit      = 1000
	maxWeight = 1000
)

// tagged reports whether the member has the tag, with any value but false.
func tagged(m *replication.Member, tag string) bool {
	value, ok := m.Tags[tag]
	return ok && value != "false"
}

// Standing is what a proxy knows of a member besides its status.
type Standing struct {
	Traits      Traits
	Outstanding int32         // turns in progress there
	Latency     time.Duration // of turns, lately; 0: not known
	// Away and Behind: it could not serve any read, or not bounded ones, and may not have been back for long enough.
	Away, Behind Absence
	EjectedUntil replication.Instant // connections to it or turns on it have failed in a row; in the past: it was so until then
}

// noStanding is that of a member of which nothing is known.
var noStanding = Standing{Traits: Traits{Weight: unit}}

func (in *Input) standing(i int) *Standing {
	if i < len(in.Members) {
		return &in.Members[i]
	}
	return &noStanding
}

// Differences of cost that are not worth a preference, and one that is worth leaving the session's standby for.
const (
	closeCost   = 1.5
	unfaithful  = 2
	leastWait   = 200 * time.Microsecond // nothing is faster, as far as costs are concerned
	stickyWhy   = "the standby of the session's last read"
	balancedWhy = "the better of two standbys that are fresh enough"
	onlyWhy     = "the only standby that is fresh enough"
	taggedWhy   = "a standby with the tag that was asked for"
)

// balance chooses one of a set of members, which is not empty: among those with the tag that was asked for, if there are
// any, then among those of the own zone, if there are any. Two are drawn, by their weights, and the one with less cost is
// taken: the time that the turns before a new one will take there.
func (in *Input) balance(set uint64) Choice {
	why := balancedWhy
	if in.Tag != "" {
		if with := in.those(set, func(m *replication.Member, _ *Standing) bool { return tagged(m, in.Tag) }); with != 0 {
			set, why = with, taggedWhy
		}
	}
	sticky := -1
	for rest := set; rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros64(rest); in.View.Members[i].Name == in.Requirement.Sticky {
			sticky = i
		}
	}
	near := set
	if in.Balance.Zone != "" {
		if with := in.those(set, func(_ *replication.Member, s *Standing) bool { return s.Traits.Zone == in.Balance.Zone }); with != 0 {
			near = with
		}
	}
	first := in.draw(near, in.Seed)
	if others := near &^ (1 << first); others != 0 {
		second := in.draw(others, in.Seed^0x9e3779b9)
		if in.cost(second)*closeCost < in.cost(first) {
			first = second
		}
	} else if near == set && why == balancedWhy {
		why = onlyWhy
	}
	if sticky >= 0 && in.cost(sticky) <= unfaithful*in.cost(first) {
		first, why = sticky, stickyWhy
	}
	return Choice{Node: in.View.Members[first].Name, Role: replication.RoleStandby, Why: why}
}

// those returns the members of the set for which has holds.
func (in *Input) those(set uint64, has func(*replication.Member, *Standing) bool) (with uint64) {
	for rest := set; rest != 0; rest &= rest - 1 {
		if i := bits.TrailingZeros64(rest); has(&in.View.Members[i], in.standing(i)) {
			with |= 1 << i
		}
	}
	return with
}

// draw takes one of a set of members, which is not empty, by chance and weight.
func (in *Input) draw(set uint64, seed uint32) int {
	var all uint64
	for rest := set; rest != 0; rest &= rest - 1 {
		all += uint64(in.weight(bits.TrailingZeros64(rest)))
	}
	mark := uint64(scramble(seed)) % all
	for rest := set; ; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		w := uint64(in.weight(i))
		if mark < w || rest&(rest-1) == 0 {
			return i
		}
		mark -= w
	}
}

// weight is that of the tag, less while the member has been back for less than SlowStart.
func (in *Input) weight(i int) uint32 {
	s := in.standing(i)
	w := max(s.Traits.Weight, 1)
	if s.Traits.Weight == 0 {
		w = unit
	}
	back := s.Away.BackAt
	if in.Requirement.Bounded {
		back = max(back, s.Behind.BackAt)
	}
	if s.EjectedUntil <= in.Now {
		back = max(back, s.EjectedUntil)
	}
	// A driver's clock may be read a little before a member was seen to be back.
	if since := max(in.Now.Sub(back), 0); back != 0 && since < in.Balance.SlowStart {
		return max(uint32(int64(w)*int64(since)/int64(in.Balance.SlowStart)), w/10, 1)
	}
	return w
}

// cost is the time that a new turn may take on a member.
func (in *Input) cost(i int) float64 {
	s := in.standing(i)
	return float64(max(s.Latency, leastWait)) * (1 + float64(max(s.Outstanding, 0))*unit/float64(in.weight(i)))
}

// scramble makes numbers that follow each other independent of each other.
func scramble(n uint32) uint32 {
	n = (n + 0x9e3779b9) * 0x85ebca6b
	n = (n ^ n>>13) * 0xc2b2ae35
	return n ^ n>>16
}
