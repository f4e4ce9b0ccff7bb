package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walgate/walgate/replication"
)

// Claim is what a claim would count, and by which rule it qualifies.
type Claim struct {
	Position Position
	Counted  []VoteRev // compared in the claim
	Votes    []Vote    // the same, for the ledger
	Rule     string    // handoff, release, votes, lag, last holder
	Why      string    // for people
}

// ttl is how long the last beat counts here: its holder's word, or longer.
func (o *Observation) ttl() time.Duration {
	if o.Store.Beat == nil {
		return o.Timing.TTL
	}
	return max(o.Timing.TTL, o.Store.Beat.TTL)
}

// expired reports whether the primary's beat has run out on this clock: a read that was sent TTL after the beat was
// first seen still showed it.
func (o *Observation) expired() bool {
	return o.Store.Beat != nil && o.Store.ReadAt >= o.Store.BeatSince.Add(o.ttl())
}

// ClaimQualifies judges whether this node may claim the next epoch now. See docs/leadership.md, "The claim". When it
// may not, Why tells what is missing.
func ClaimQualifies(o Observation) (Claim, bool) {
	t := tick{Observation: &o}
	return t.qualifies()
}

func (t *tick) qualifies() (Claim, bool) {
	rec, beat, in := t.Store.Record, t.Store.Beat, &t.Instance
	no := func(format string, args ...any) (Claim, bool) { return Claim{Why: fmt.Sprintf(format, args...)}, false }
	switch {
	case rec == nil:
		return no("there is no record")
	case rec.Paused:
		return no("the cluster is paused")
	case !rec.eligible(t.Self.Name) && rec.Primary != t.Self.Name:
		return no("this node is no candidate (nofailover, or no member)")
	case in.SystemID != rec.SystemID:
		return no("this node belongs to another system")
	case in.Process != ProcessRunning || !in.InRecovery:
		return no("no standby runs here")
	case in.Follows != "" || in.ReceiverAlive || t.unsettled():
		return no("the WAL receiver has not gone yet")
	}
	pos, ok := t.position()
	if !ok {
		return no("the origin of the local WAL is not known")
	}
	if beat == nil { // nobody has ever claimed: only the node that ran initdb
		if rec.Primary == t.Self.Name && rec.Epoch == 0 {
			return Claim{Position: pos, Rule: "bootstrap", Why: "first claim"}, true
		}
		return no("waiting for the first claim by %s", rec.Primary)
	}
	holder := beat.Holder == t.Self.Name && rec.Primary == t.Self.Name
	if beat.Release == nil && !t.expired() && !holder {
		t.wake(t.Store.BeatSince.Add(t.ttl()))
		return no("%s holds the lease", beat.Holder)
	}
	if t.Rules.Votes && !t.voted(pos) && !holder {
		return no("this node's vote is not in the store")
	}
	return t.byPosition(pos, holder)
}

// byPosition applies the rules of position, in the order of how soon they can allow a claim.
func (t *tick) byPosition(pos Position, holder bool) (Claim, bool) {
	rec, beat := t.Store.Record, t.Store.Beat
	claim := Claim{Position: pos}
	claim.count(t, t.Self.Name)
	if r := beat.Release; r != nil {
		if why := t.reserved(r, pos); why != "" {
			claim.Why = why
			return claim, false
		}
		if !t.behind(pos, r.Position()) {
			claim.Rule, claim.Why = "release", fmt.Sprintf("%s ended (%s) at %v, held here", beat.Holder, r.Kind, r.LSN)
			return t.first(claim, holder || r.To == t.Self.Name)
		}
	}
	if holder && !t.behind(pos, beat.Position()) {
		if beat.Release == nil || !t.behind(pos, beat.Release.Position()) {
			claim.Rule, claim.Why = "last holder", "this node held the lease last and nobody has claimed since"
			return claim, true
		}
	}
	if why := t.returning(holder); why != "" {
		claim.Why = why
		return claim, false
	}
	if rec.synchronous() {
		return t.byVotes(claim)
	}
	return t.byLag(claim)
}

// returning returns why the last holder is waited for although votes would do: it ended cleanly with WAL that nobody
// else has (the members were stopped one after the other), and going on without it would cost it a rewind.
func (t *tick) returning(holder bool) string {
	beat := t.Store.Beat
	r := beat.Release
	if holder || r == nil || r.Kind != ReleaseClean || !t.Store.Record.synchronous() {
		return ""
	}
	wait := t.ttl()
	if t.live(beat.Holder) {
		wait = max(wait, t.Store.Record.Settings.ColdStartWait)
	}
	if t.passed(t.Store.BeatSince, wait) {
		return ""
	}
	return fmt.Sprintf("%s ended cleanly at %v, past what is here: waiting for it", beat.Holder, r.LSN)
}

// unsettled reports whether what is known of the instance may be older than the last move of the PostgreSQL hand.
func (o *Observation) unsettled() bool {
	return o.Hands.Postgres.Busy || o.Instance.At < o.Hands.PostgresEnded
}

// behind reports whether p is behind other; without the rule nothing is.
func (o *Observation) behind(p, other Position) bool { return o.Rules.Position && p.Compare(other) < 0 }

// reserved returns why somebody else must be waited for after a release; empty if this node may go on.
func (t *tick) reserved(r *Release, pos Position) string {
	h := t.Store.Record.Handoff
	if r.To == "" || r.To == t.Self.Name || h == nil {
		if r.To != t.Self.Name && t.Store.Beat.Holder == t.Self.Name && !t.othersBehind(r) && !t.passed(t.Store.BeatSince, t.Timing.RPC) {
			return "released: the others go first"
		}
		return ""
	}
	for _, v := range t.Store.Votes {
		if v.Vote.Node == r.To && !v.Vote.Withdrawn && v.Vote.Position().Compare(r.Position()) < 0 && pos.Compare(r.Position()) >= 0 {
			return "" // it will never have it
		}
	}
	if t.passed(t.Store.HandoffSince, h.Deadline) && t.passed(t.Store.BeatSince, t.Timing.RPC) {
		return ""
	}
	return fmt.Sprintf("released to %s", r.To)
}

// othersBehind reports whether every other live candidate has voted and holds less than the release tells: none of
// them can claim by it, so that nobody need be waited for.
func (t *tick) othersBehind(r *Release) bool {
	for _, n := range t.Store.Nodes {
		if n.Name == t.Self.Name || !t.Store.Record.eligible(n.Name) {
			continue
		}
		if v, ok := t.vote(n.Name); !ok || !t.behind(v.Position(), r.Position()) {
			return false
		}
	}
	return !t.Store.Record.synchronous() // there votes alone may do
}

// byVotes is the rule of synchronous modes: n − k + 1 of the voters have frozen and none of those is ahead.
func (t *tick) byVotes(claim Claim) (Claim, bool) {
	sync := t.Store.Record.Sync
	if len(sync.Voters) == 0 {
		claim.Why = fmt.Sprintf("no voters: only %s may claim", t.Store.Record.Primary)
		return claim, false
	}
	need := VotesNeeded(len(sync.Voters), sync.Quorum)
	if !t.Rules.Votes {
		need = 0
	}
	var ahead []string
	counted := 0
	for _, v := range t.Store.Votes {
		if v.Vote.Withdrawn || !slices.Contains(sync.Voters, v.Vote.Node) {
			continue
		}
		if t.behind(claim.Position, v.Vote.Position()) {
			ahead = append(ahead, string(v.Vote.Node))
			continue
		}
		counted++
		claim.count(t, v.Vote.Node)
	}
	if counted < need {
		claim.Why = fmt.Sprintf("%d of %d votes needed (of %d voters)", counted, need, len(sync.Voters))
		if len(ahead) > 0 {
			claim.Why += ", ahead: " + strings.Join(ahead, " ")
		}
		return claim, false
	}
	if len(ahead) > 0 && !t.passed(t.Store.VotesSince, t.Timing.RPC) {
		claim.Why = "leaving the claim to " + strings.Join(ahead, " ") + ", who hold more"
		return claim, false
	}
	claim.Rule, claim.Why = "votes", fmt.Sprintf("%d votes of %d voters, none ahead", counted, len(sync.Voters))
	return t.first(claim, false)
}

// byLag is the rule of asynchronous mode: near enough to the last beat, and the best of those that live.
func (t *tick) byLag(claim Claim) (Claim, bool) {
	rec, beat := t.Store.Record, t.Store.Beat
	pos := claim.Position
	since := max(t.Store.BeatSince, t.Store.EpochSince)
	cold := t.passed(since, t.ttl()+rec.Settings.ColdStartWait)
	reach, onChain := t.reachOnChain(pos)
	last := beat.Position()
	if beat.Release != nil {
		last = beat.Release.Position()
	}
	if !cold && (!onChain || last.LSN.BytesPast(reach) > rec.Settings.MaximumLag) {
		claim.Why = fmt.Sprintf("%v is too far behind the last known position %v: waiting for %s", pos.LSN, last.LSN, beat.Holder)
		return claim, false
	}
	if beat.Release != nil && !cold && t.live(beat.Holder) {
		claim.Why = fmt.Sprintf("%s lives and holds more", beat.Holder)
		return claim, false
	}
	missing := 0
	for _, n := range t.Store.Nodes {
		if v, ok := t.vote(n.Name); n.Name != t.Self.Name && n.Name != beat.Holder && rec.eligible(n.Name) {
			if !ok {
				missing++
			} else if v.Position().Compare(pos) > 0 && !cold {
				claim.Why = fmt.Sprintf("%s holds more", n.Name)
				return claim, false
			}
		}
	}
	if missing > 0 && !t.passed(t.Store.VotesSince, t.Timing.VoteWait) {
		claim.Why = fmt.Sprintf("waiting for the votes of %d live nodes", missing)
		return claim, false
	}
	claim.Rule, claim.Why = "lag", fmt.Sprintf("%d bytes behind the last known position", last.LSN.BytesPast(reach))
	return t.first(claim, false)
}

// reachOnChain returns how far a position reaches along the primary's chain of branches.
func (t *tick) reachOnChain(pos Position) (replication.LSN, bool) {
	chain := t.Store.Record.Chain
	if pos.Origin >= t.Store.Beat.Origin {
		return pos.LSN, true
	}
	i := byEpoch(chain, pos.Origin)
	if i < 0 {
		return 0, false
	}
	if i+1 < len(chain) {
		return min(pos.LSN, chain[i+1].Fork), true
	}
	return pos.LSN, true
}

// first lets the node with the lowest name among equals go first; the others wait a little.
func (t *tick) first(claim Claim, holder bool) (Claim, bool) {
	if holder {
		return claim, true
	}
	for _, v := range t.Store.Votes {
		n := v.Vote.Node
		if v.Vote.Withdrawn || n >= t.Self.Name || v.Vote.Position().Compare(claim.Position) != 0 || !t.Store.Record.eligible(n) {
			continue
		}
		if !t.passed(t.Store.VotesSince, t.Timing.Tie) {
			claim.Why = fmt.Sprintf("%s has the same position and goes first", n)
			return claim, false
		}
	}
	return claim, true
}

// count adds the node's vote to those that the claim compares.
func (c *Claim) count(t *tick, node replication.NodeID) {
	for _, v := range t.Store.Votes {
		if v.Vote.Node != node || v.Vote.Withdrawn || slices.ContainsFunc(c.Counted, func(r VoteRev) bool { return r.Node == node }) {
			continue
		}
		c.Counted = append(c.Counted, VoteRev{node, v.Rev})
		c.Votes = append(c.Votes, v.Vote)
	}
}

// vote returns the node's standing vote.
func (o *Observation) vote(node replication.NodeID) (Vote, bool) {
	for _, v := range o.Store.Votes {
		if v.Vote.Node == node && !v.Vote.Withdrawn && v.Vote.Epoch == o.Store.Record.Epoch+1 {
			return v.Vote, true
		}
	}
	return Vote{}, false
}

// voted reports whether this node's vote for the next epoch is in the store and tells its position.
func (o *Observation) voted(pos Position) bool {
	v, ok := o.vote(o.Self.Name)
	return ok && v.Position().Compare(pos) == 0
}

// claim sets the lease hand to claim the next epoch if this node qualifies.
func (t *tick) claim() (why string, ok bool) {
	c, ok := t.qualifies()
	if !ok {
		return c.Why, false
	}
	rec := t.Store.Record
	old := rec.Primary
	if rec.Epoch == 0 {
		old = "" // it ran initdb, and never led
	}
	next := t.change()
	next.Epoch++
	next.Primary, next.Open, next.Handoff = t.Self.Name, false, nil
	next.Timeline = c.Position.Timeline
	next.Chain, next.ClaimLSN = t.chain(), c.Position.LSN
	next.Votes = c.Votes
	next.Claims = append(slices.Clone(rec.Claims), Claimed{next.Epoch, t.Self.Name})
	next.Claims = next.Claims[max(0, len(next.Claims)-chainKept):]
	next.Sync.Voters = nil
	if rec.synchronous() {
		next.Sync.Voters = votersAfterClaim(rec.Sync.Voters, t.Self.Name, old)
	}
	pause := time.Duration(0)
	if t.Store.Beat != nil {
		pause = t.Now.Sub(t.Store.BeatSince)
	}
	next.Last = &Failover{
		Epoch: next.Epoch, From: old, To: t.Self.Name, At: t.Wall, Reason: c.Rule + ": " + c.Why, PauseMS: pause.Milliseconds(),
	}
	t.d.Lease = LeaseMove{
		Kind: LeaseClaim, Record: next, RecordRev: t.Store.RecordRev, BeatRev: t.Store.BeatRev, Counted: c.Counted,
		Beat: &Beat{
			Epoch: next.Epoch, Holder: t.Self.Name, Nonce: t.Nonce, N: t.Lease.NextN,
			Origin: c.Position.Origin, Timeline: c.Position.Timeline, Flush: c.Position.LSN,
			TTL: t.Timing.TTL,
		},
	}
	t.d.Why = fmt.Sprintf("claiming epoch %d (%s)", next.Epoch, next.Last.Reason)
	return t.d.Why, true
}
