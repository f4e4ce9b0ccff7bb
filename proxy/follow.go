package proxy

import (
	"context"

	"github.com/walgate/walgate/replication"
)

// follow carries every change of the view, the board and the gate to pools and sessions until ctx ends.
func (s *Server) follow(ctx context.Context) {
	var grant replication.Grant
	for first := true; ; first = false {
		view, viewChanged := s.deps.View.Changed()
		board, boardChanged := s.deps.Board.Changed()
		newGrant, gateChanged := s.deps.Gate.Changed()
		s.broker.board.Store(&board)
		s.broker.stood.Store(s.broker.stood.Load().next(&view, &board, s.broker.now(), s.commonLimits(), s.cfg.ReturnAfter))
		// A renewal in time changes nothing for anybody; one after the deadline, or of another epoch, does.
		opened := newGrant != grant && (newGrant.Epoch != grant.Epoch || s.broker.now() >= grant.Deadline)
		grant = newGrant
		newer := first || view.Version > s.view.Load().Version || view.Epoch > s.view.Load().Epoch
		if newer {
			s.apply(view)
		} else if opened || s.broker.heldNow() > 0 {
			s.broker.round(nil)
		}
		if newer || opened {
			for _, d := range s.drivers {
				d.ViewChanged()
			}
		}
		s.publish(newer)
		select {
		case <-viewChanged:
		case <-boardChanged:
		case <-gateChanged:
		case <-s.changed:
		case <-ctx.Done():
			return
		}
	}
}

// apply makes a newer view the one in force. Sessions see it before the pools are fenced, so that none of them takes a
// connection's end for anything else.
func (s *Server) apply(view replication.View) {
	old := s.view.Load()
	s.view.Store(&view)
	for _, d := range s.drivers {
		d.SetDraining(view.Handoff.Draining)
	}
	homeless := s.broker.apply(view)
	s.broker.round(homeless)
	if old.Epoch != view.Epoch || old.Primary != view.Primary || old.Open != view.Open || old.Handoff != view.Handoff {
		s.log.Info("view changed", "version", view.Version, "epoch", uint64(view.Epoch), "primary", string(view.Primary),
			"open", view.Open, "draining", view.Handoff.Draining, "held", s.broker.heldNow())
	}
}

// publish reports on the drain when there is something new to say.
func (s *Server) publish(newer bool) {
	if !newer && !s.view.Load().Handoff.Draining {
		return
	}
	if report := s.Report(); newer || report != s.report.Load() {
		s.report.Publish(report)
	}
}

// Served counts the turns and transactions that the primary has ended well through this proxy: while it rises, the
// primary does not hang. It is safe for concurrent use.
func (s *Server) Served() uint64 { return s.broker.answered.Load() }

// Report tells how far this proxy is with the handoff that the view names. OpenTx counts primary connections that are
// lent out, without those whose (pinned) session has neither a turn nor a transaction open.
func (s *Server) Report() DrainReport {
	view := s.view.Load()
	r := DrainReport{Epoch: view.Epoch, Sessions: s.sessions.count(), Held: s.broker.heldNow()}
	if view.Handoff.Draining {
		r.HandoffID = view.Handoff.ID
	}
	r.OpenTx = s.pools.PrimaryInUse()
	if r.OpenTx == 0 {
		return r
	}
	for _, d := range s.drivers {
		r.OpenTx -= d.IdleOnPrimary()
	}
	r.OpenTx = max(r.OpenTx, 0)
	return r
}

// Reports is the feed of drain reports; one is published when the view changes, and while draining when a number in it
// changes.
func (s *Server) Reports() *replication.Feed[DrainReport] { return &s.report }
