package router

import (
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
	// Load is the number of turns in progress per member, in the order of View.Members; nil: not known.
	Load []int32
	// Seed turns the choice among equals: any number that changes from session to session.
	Seed uint32
}

// Choice is where a statement runs. An empty Node means nowhere now: hold the turn; Why says what is missing.
type Choice struct {
	Node replication.NodeID
	Role replication.Role
	Why  string // constant text
}

// TagNoLoadBalance keeps reads away from a member when it is "true", as Patroni's tag of that name does.
const TagNoLoadBalance = "noloadbalance"

// Pick chooses a server. Writes go to the View's primary if it is writable. Reads go to the standby of the session's
// last read if it will do, else to the least loaded one that satisfies the Requirement, else to the primary. With
// TargetReplica a write goes to a standby, which will refuse it as the user asked, and never falls back.
func Pick(in Input) Choice {
	if in.Target == TargetPrimary || in.Kind == Write && in.Target != TargetReplica {
		return in.primary("the statement needs the primary")
	}
	if in.Requirement.PrimaryOnly {
		if in.Kind == Write {
			return Choice{Why: in.Requirement.Why} // it insists on replicas, and may read there: a fresher sample is waited for
		}
		return in.primary(in.Requirement.Why)
	}
	best, why := -1, "the cluster has no standby"
	n := len(in.View.Members)
	for i := range n {
		at := (i + int(in.Seed%uint32(n))) % n
		member := &in.View.Members[at]
		if member.Name == in.View.Primary {
			continue
		}
		if reason := in.refuse(member); reason != "" {
			why = reason
			continue
		}
		if member.Name == in.Requirement.Sticky {
			return Choice{Node: member.Name, Role: replication.RoleStandby, Why: "the standby of the session's last read"}
		}
		if best < 0 || in.load(at) < in.load(best) {
			best = at
		}
	}
	switch {
	case best >= 0:
		return Choice{Node: in.View.Members[best].Name, Role: replication.RoleStandby, Why: "the least loaded standby that is fresh enough"}
	case in.Kind == Write:
		return Choice{Why: why}
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

// refuse says why the member may not serve; empty if it may.
func (in *Input) refuse(member *replication.Member) string {
	st, known := in.Board.Nodes[member.Name]
	req := &in.Requirement
	switch {
	case member.Tags[TagNoLoadBalance] == "true":
		return "the standby is tagged noloadbalance"
	case !known || !st.Reachable:
		return "the standby is not reachable"
	case st.Role != replication.RoleStandby:
		return "the node is not a standby"
	case in.Now.Sub(st.At) > in.Limits.MaxAge:
		return "the standby's status is too old"
	case st.Timeline == 0 || st.Timeline != in.View.Timeline:
		return "the standby is on another timeline"
	case !st.Streaming && in.View.Writable():
		return "the standby does not stream"
	case st.Replayed < req.Token || req.Token.Known() && !st.Replayed.Known():
		return "the standby has not replayed what the session must see"
	case req.Bounded && in.Limits.MaxLagBytes > 0 && (st.LagBytes < 0 || st.LagBytes > in.Limits.MaxLagBytes):
		return "the standby is too many bytes behind"
	case req.Bounded && in.Limits.MaxLag > 0 && (st.Lag < 0 || st.Lag > in.Limits.MaxLag):
		return "the standby is too long behind"
	}
	if req.Sticky == "" || req.Sticky == member.Name && req.StickyLife == st.Incarnation {
		return ""
	}
	if req.SwitchUnknown || st.Replayed < req.SwitchToken {
		return "the standby may be behind the one that the session read before"
	}
	return ""
}

func (in *Input) load(member int) int32 {
	if member < len(in.Load) {
		return in.Load[member]
	}
	return 0
}
