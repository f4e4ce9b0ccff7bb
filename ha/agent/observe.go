package agent

import (
	"context"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
)

// observe gathers all that Decide may look at. It waits for nothing; the clock is read last.
func (a *Agent) observe() ha.Observation {
	a.timing = a.cfg.Timing
	if r := a.known.snap.Record; r != nil && r.Settings.TTL > 0 {
		a.timing.TTL = r.Settings.TTL
		if err := a.timing.Validate(); err != nil {
			a.timing = a.cfg.Timing
			a.once("the record's ttl is not used", err)
		}
	}
	o := ha.Observation{
		Self: a.cfg.Self, Nonce: a.nonce, Wall: time.Now().UTC(), Timing: a.timing, Rules: ha.AllRules(),
		Store: a.known.facts(), Lease: a.lease, Instance: a.observeInstance(), Defaults: a.cfg.Defaults,
		Hands: ha.Hands{
			Lease:    ha.HandState{Busy: a.leaseH.busy, Since: a.leaseH.since},
			Postgres: ha.HandState{Busy: a.pgH.busy, Since: a.pgH.since}, PostgresEnded: a.pgEnded,
		},
	}
	if a.leaseH.busy {
		o.Hands.LeaseMove = a.leaseH.move.Kind
	}
	if a.pgH.busy {
		o.Hands.PostgresMove = a.pgH.move
	}
	o.Now = a.cfg.Clock()
	return o
}

// once logs a warning unless the one before was for the same reason.
func (a *Agent) once(what string, err error) {
	if text := err.Error(); text != a.lastWarning {
		a.lastWarning = text
		a.log.Warn("degraded", "what", what, "err", err)
	}
}

// guardUntil hands the guard's deadline on. The keeper takes the newest; an older one that it has not sent is dropped.
func (a *Agent) guardUntil(o ha.Observation, d ha.Decision) {
	want := postgres.Deadline{}
	if d.KillAt != 0 {
		want = postgres.Deadline{Epoch: a.lease.Epoch, Nonce: a.lease.Nonce, At: d.KillAt}
	}
	if want == a.armed || o.Instance.Process == ha.ProcessStopped && !want.Armed() {
		return
	}
	a.armed = want
	for {
		select {
		case a.guards <- want:
			return
		case <-a.guards:
		}
	}
}

// keepGuard tells the guard its deadline whenever that changes.
func (a *Agent) keepGuard(work context.Context) {
	for {
		select {
		case <-work.Done():
			return
		case d := <-a.guards:
			ctx, cancel := context.WithTimeout(work, a.cfg.Timing.RPC)
			var err error
			if d.Armed() {
				err = a.pg.Arm(ctx, d)
			} else {
				err = a.pg.Disarm(ctx, "a standby, or paused")
			}
			cancel()
			if err != nil && work.Err() == nil {
				a.log.Warn("the guard was not told its deadline", "armed", d.Armed(), "err", err)
			}
		}
	}
}

// tell logs a new reason, and publishes what this node does for its peers and the API.
func (a *Agent) tell(o ha.Observation, d ha.Decision) {
	if d.Why != a.lastWhy && !a.claiming(d) {
		a.lastWhy = d.Why
		a.log.Info("decision", "why", d.Why, "lease", d.Lease.Kind, "postgres", d.Postgres.Kind, "door", d.Door)
	}
	state, role := a.state(o), "unknown"
	if o.Instance.Process == ha.ProcessRunning {
		role = "primary"
		if o.Instance.InRecovery {
			role = "standby"
		}
	}
	why := d.Why
	if a.inst.copied != "" {
		why = a.inst.copied
	}
	report := ha.NodeReport{Name: a.cfg.Self.Name, API: a.cfg.Self.API, State: state, Role: role,
		Timeline: o.Instance.Timeline, Why: why}
	if a.reported != report {
		// Positions go along with other news only: the board has them fresher, and every write costs the store an fsync.
		a.reported = report
		report.Received, report.Replayed = o.Instance.End, o.Instance.Replayed
		a.register.Update(report)
	}
	a.status.Publish(Status{
		Decision: d, State: state, Role: role, Holder: a.lease.Epoch != 0 && o.Store.Record != nil && a.lease.Epoch == o.Store.Record.Epoch,
		Data: a.inst.dir, Facts: a.inst.facts, Alive: a.inst.answered && a.inst.failures == 0, Process: a.inst.procs,
	})
}

// claiming reports whether d bids for an epoch while the answer to an earlier bid is still under way: its words would be
// about a claim that is not sent.
func (a *Agent) claiming(d ha.Decision) bool {
	return a.leaseH.busy && a.leaseH.move.Kind == ha.LeaseClaim && d.Lease.Kind == ha.LeaseClaim &&
		a.leaseH.move.Record.Epoch != d.Lease.Record.Epoch
}

// state is the word for what this node does, see ha.NodeReport.
func (a *Agent) state(o ha.Observation) string {
	if a.pgH.busy {
		switch a.pgH.move.Kind {
		case ha.PostgresInitdb:
			return "initializing"
		case ha.PostgresClone, ha.PostgresReclone:
			return "cloning"
		case ha.PostgresRewind:
			return "rewinding"
		case ha.PostgresStart:
			return "starting"
		case ha.PostgresStopFast, ha.PostgresKillWhole:
			return "stopping"
		case ha.PostgresPromote:
			return "promoting"
		}
	}
	switch i := o.Instance; {
	case i.Process == ha.ProcessStarting:
		return "starting"
	case i.Process != ha.ProcessRunning:
		return "stopped"
	case i.Hung || i.ProbeFailures > 0:
		return "unresponsive"
	case !i.InRecovery && o.Store.Record != nil && o.Store.Record.Primary == o.Self.Name && !o.Store.Record.Open:
		return "promoting"
	case !i.InRecovery:
		return "running"
	case i.Streaming:
		return "streaming"
	case i.Follows != "":
		return "connecting"
	default:
		return "waiting"
	}
}
