package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// The settings with which a replication client chooses its server.
const (
	settingNode   = "walgate.node"
	settingTarget = "walgate.target"
	ownPrefix     = "walgate."
)

// Stream implements netdriver.Door: the primary, once there is one, or the node or kind of node that the client names.
func (d *door) Stream(ctx context.Context, target router.Target, req *session.AuthRequest) (*pool.Stream, *session.Failure) {
	node := replication.NodeID("")
	dial := pool.StreamRequest{User: req.User, Secret: d.secret(req.User), Startup: []string{
		"database", req.Database, "replication", req.Replication,
	}}
	for _, p := range req.Parameters {
		switch name := strings.ToLower(p.Name); {
		case name == settingNode:
			node = replication.NodeID(p.Value)
		case name == settingTarget:
			target, _ = router.ParseTarget(p.Value) // the session has checked it
		case !strings.HasPrefix(name, ownPrefix):
			dial.Startup = append(dial.Startup, p.Name, p.Value)
		}
	}
	for {
		view, viewChanged := d.view.Changed()
		_, gateChanged := d.broker.gate.Changed()
		_, boardChanged := d.board.Changed()
		member, failure := d.upstream(&view, node, target)
		if failure != nil {
			return nil, failure
		}
		if member.Name != "" {
			dial.Node, dial.Address = member.Name, pool.Address{Host: member.Host, Port: member.Port}
			dial.Role, dial.Epoch = replication.RoleStandby, 0
			if member.Name == view.Primary {
				dial.Role, dial.Epoch = replication.RolePrimary, view.Epoch
			}
			stream, err := d.dialer.Stream(ctx, dial)
			return stream, streamFailure(member.Name, err)
		}
		select {
		case <-viewChanged:
		case <-gateChanged:
		case <-boardChanged:
		case <-ctx.Done():
			return nil, unavailable("The login waited until its timeout for a server that it may use")
		}
	}
}

// upstream chooses the member; none means that the client must wait.
func (d *door) upstream(view *replication.View, node replication.NodeID, target router.Target) (replication.Member, *session.Failure) {
	switch {
	case node != "":
		member, ok := view.Member(node)
		if !ok && view.Version > 0 {
			return replication.Member{}, &session.Failure{
				SQLSTATE: "22023", Message: fmt.Sprintf("there is no node %q in the cluster", string(node)),
				Hint: "walgate.node takes the name of a member, as walgate status shows it.",
			}
		}
		if node != view.Primary || d.mayWrite(view) {
			return member, nil
		}
	case target == router.TargetReplica:
		choice := d.broker.pick(d.broker.state.Load(), &pool.Ticket{Need: session.Need{
			Kind: router.Read, Target: router.TargetReplica, Level: router.LevelEventual, Arrival: d.broker.now(),
		}})
		if choice.Role == replication.RoleStandby {
			member, _ := view.Member(choice.Node)
			return member, nil
		}
	case d.mayWrite(view):
		member, _ := view.Member(view.Primary)
		return member, nil
	}
	return replication.Member{}, nil
}

func (d *door) mayWrite(view *replication.View) bool {
	return view.Writable() && d.broker.gate.Allows(view.Epoch, d.broker.now())
}

// streamFailure words why a replication connection could not be opened; nil if it was.
func streamFailure(node replication.NodeID, err error) *session.Failure {
	var refusal *pool.LoginError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal):
		return &refusal.Failure
	}
	return unavailable(fmt.Sprintf("No replication connection to %s could be opened: %s", node, err))
}

// Astray implements netdriver.Door. What leads to a primary ends with its epoch; what leads to a standby, when that has
// left or moved. A standby that is promoted goes on with what it streams.
func (d *door) Astray(s *pool.Stream) *session.Failure {
	view := &d.broker.state.Load().view
	member, ok := view.Member(s.Facts.Node)
	moved := !ok || s.Address != pool.Address{Host: member.Host, Port: member.Port}
	superseded := s.Facts.Role == replication.RolePrimary && (view.Primary != s.Facts.Node || view.Epoch != s.Facts.Epoch)
	if !moved && !superseded {
		return nil
	}
	return &session.Failure{
		SQLSTATE: "57P01", Message: "terminating replication connection because the cluster has changed",
		Detail: fmt.Sprintf("It led to %s, which is no longer what it was at the login.", s.Facts.Node),
		Hint:   "Connect again.",
	}
}
