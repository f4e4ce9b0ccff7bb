package router

import (
	"slices"
	"time"

	"github.com/walgate/walgate/replication"
)

// Limits bound how far behind a standby may be to serve reads.
type Limits struct {
	MaxLagBytes int64         // for levels from bounded on; 0: no limit
	MaxLag      time.Duration // for levels from bounded on; 0: no limit
	MaxAge      time.Duration // a status that arrived longer ago is no basis for a choice
}

// Input is all that Pick looks at.
type Input struct {
	View        *replication.View
	Board       *replication.StatusBoard
	Now         replication.Instant
	Kind        Kind
	Target      Target // TargetUnset counts as TargetAuto
	Requirement Requirement
	Limits      Limits
	Fallback    Fallback // FallbackUnset counts as FallbackPrimary
	// Wait: a standby that is only behind, or not known to be far enough, is waited for: no node is chosen.
	Wait bool
	// Proven is a standby whose server connections are younger than what it said of itself; it may serve what needs a
	// proof only by what it says after ProvenAfter.
	Proven      replication.NodeID
	ProvenAfter replication.Instant
	// Tried are members that have failed this statement: they serve it again only where nobody else may.
	Tried []replication.NodeID
	// Members says how each member stands and what it has to do, in the order of View.Members; nil: not known.
	Members []Standing
	Balance Balance
	Tag     string // members with this tag are preferred; empty: any
	// Seed turns the choice among equals: any number that changes from session to session.
	Seed uint32
}

// Choice is where a statement runs. An empty Node means nowhere now: hold the turn, unless it is Refused; Why says what
// is missing.
type Choice struct {
	Node    replication.NodeID
	Role    replication.Role
	Why     string // constant text
	Refused bool   // the session wants an error rather than the primary
}

// The tags that Pick understands.
const (
	TagNoLoadBalance = "noloadbalance" // "true" keeps reads away from a member, as Patroni's tag of that name does
	TagWeight        = "weight"        // a number: the share of reads relative to others, 1 when absent
	TagZone          = "zone"          // where the member is; reads prefer those of the proxy's own zone
)

// Pick chooses a server. Writes go to the View's primary if it is writable. Reads go to the standby of the session's
// last read if it will do and is not much slower than another, else to one of those that satisfy the Requirement, the
// better of two by chance, else to the primary. With TargetReplica a write goes to a standby, which will refuse it as the
// user asked, and never falls back.
func Pick(in Input) Choice {
	if in.Target == TargetPrimary || in.Kind == Write && in.Target != TargetReplica {
		return in.primary("the statement needs the primary")
	}
	if in.Requirement.PrimaryOnly {
		if in.Kind == Write || in.Wait && in.promising() {
			return Choice{Why: in.Requirement.Why} // a fresher sample is waited for
		}
		return in.instead(in.Requirement.Why)
	}
	if in.takesShare() {
		return in.primary("the primary's share of the reads")
	}
	c := in.candidates()
	switch {
	case c.fit != 0:
		return in.balance(c.fit)
	case c.ejected != 0:
		return in.balance(c.ejected) // never all
	case c.soft != 0 && in.standbyOnly():
		return in.balance(c.soft)
	case c.tried != 0 && in.standbyOnly():
		return in.balance(c.tried)
	case c.behind && in.Wait:
		return Choice{Why: c.why}
	default:
		return in.instead(c.why)
	}
}

// standbyOnly reports whether there is no primary to fall back to, or it shall be spared.
func (in *Input) standbyOnly() bool {
	return in.Kind == Write || in.Fallback == FallbackError || !in.View.Writable()
}

// promising reports whether some standby could serve the read, but for what is not known yet.
func (in Input) promising() bool {
	in.Requirement = Requirement{Bounded: true}
	c := in.candidates()
	return c.fit|c.ejected|c.soft != 0
}

// takesShare reports whether the read is one of those that the primary serves although standbys might.
func (in *Input) takesShare() bool {
	return in.Balance.PrimaryShare > 0 && in.Target != TargetReplica && in.Tag == "" && in.View.Writable() &&
		int(scramble(in.Seed^0x5bd1e995)%100) < in.Balance.PrimaryShare
}

// candidates are sets of members: bit i is View.Members[i].
type candidates struct {
	fit     uint64 // may serve
	ejected uint64 // would, but connections to them failed
	soft    uint64 // may serve, but have been of no use until a moment ago
	tried   uint64 // would, but have failed this statement
	behind  bool   // a member is only not far enough
	why     string // the last reason against a member
}

// maxMembers is how many members Pick looks at.
const maxMembers = 64

// candidates looks at every standby.
func (in *Input) candidates() candidates {
	c := candidates{why: "the cluster has no standby"}
	for i := range min(len(in.View.Members), maxMembers) {
		member := &in.View.Members[i]
		if member.Name == in.View.Primary {
			continue
		}
		reason, behind := in.refuse(member, in.standing(i))
		if reason != "" {
			c.why, c.behind = reason, c.behind || behind
			continue
		}
		standing := in.standing(i)
		switch bit := uint64(1) << i; {
		case slices.Contains(in.Tried, member.Name):
			c.tried |= bit
			c.why = "the standby has failed the statement"
		case in.Now < standing.EjectedUntil:
			c.ejected |= bit
		case standing.Away.Out || in.Requirement.Bounded && standing.Behind.Out:
			c.soft |= bit
			c.why = "the standby has come back only now"
		default:
			c.fit |= bit
		}
	}
	return c
}

// instead serves a read that no standby may serve now.
func (in *Input) instead(why string) Choice {
	switch {
	case in.Kind == Write:
		return Choice{Why: why}
	case in.Fallback == FallbackError:
		return Choice{Why: why, Refused: true}
	default:
		return in.primary(why)
	}
}

// primary sends the statement to the primary, or nowhere.
func (in *Input) primary(why string) Choice {
	switch {
	case in.View.Writable():
		return Choice{Node: in.View.Primary, Role: replication.RolePrimary, Why: why}
	case in.View.Primary == "":
		return Choice{Why: "the cluster has no primary"}
	case !in.View.Open:
		return Choice{Why: "the new primary is not open yet"}
	default:
		return Choice{Why: "a switchover is draining the primary"}
	}
}

// refuse says why the member may not serve; empty if it may. behind tells that time alone may cure it.
func (in *Input) refuse(member *replication.Member, standing *Standing) (why string, behind bool) {
	st, known := in.Board.Nodes[member.Name]
	req := &in.Requirement
	switch {
	case standing.Traits.NoLoadBalance && !(in.Tag != "" && tagged(member, in.Tag)):
		return "the standby is tagged noloadbalance", false
	case !known || !st.Reachable:
		return "the standby is not reachable", false
	case st.Role != replication.RoleStandby:
		return "the node is not a standby", false
	case in.Now.Sub(st.At) > in.Limits.MaxAge:
		return "the standby's status is too old", false
	case st.Timeline == 0 || st.Timeline != in.View.Timeline:
		return "the standby is on another timeline", false
	case !st.Streaming && in.View.Writable():
		return "the standby does not stream", false
	case st.Replayed < req.Token || req.Token.Known() && !st.Replayed.Known():
		return "the standby has not replayed what the session must see", true
	case req.Bounded && in.Limits.MaxLagBytes > 0 && (st.LagBytes < 0 || st.LagBytes > in.Limits.MaxLagBytes):
		return "the standby is too many bytes behind", true
	case req.Bounded && in.Limits.MaxLag > 0 && (st.Lag < 0 || st.Lag > in.Limits.MaxLag):
		return "the standby is too long behind", true
	case member.Name == in.Proven && st.AskedAt < in.ProvenAfter && req.Proof():
		return "the standby has not answered since the server connection was opened", true
	}
	if req.Sticky == "" || req.Sticky == member.Name && req.StickyLife == st.Life {
		return "", false
	}
	if req.SwitchUnknown || st.Replayed < req.SwitchToken {
		return "the standby may be behind the one that the session read before", true
	}
	return "", false
}
