package router

import "github.com/walgate/walgate/replication"

// Consistency is what one session must be able to see at LevelSession: its own writes, and never less than before. The
// zero Consistency has seen nothing. It belongs to its session and is not safe for concurrent use. Instants are this
// machine's.
//
// A turn on the primary only marks the session; a flush position of the primary that was asked for after the mark
// covers everything the session wrote or read there, and everything any standby can have shown it before. Reads on a
// standby make the session stick to it; another standby must have replayed what the first one had after that read.
// Require learns: who asks a copy gives the copy back to the session, or the session is not told of Lost.
type Consistency struct {
	touched replication.Instant // end of the last turn on the primary that no sample has covered yet; 0: none
	epoch   replication.Epoch   // to which token belongs
	token   replication.LSN     // what a standby must have replayed; 0: nothing
	sticky  replication.NodeID  // the standby of the last read; empty: none since the last turn on the primary
	life    int64               // its incarnation
	readAt  replication.Instant // when that read ended
}

// anySample marks a session that any sample of the view's epoch satisfies.
const anySample replication.Instant = 1

// Requirement is what a standby must satisfy to serve a read; Pick applies it. The zero Requirement asks for nothing.
type Requirement struct {
	// PrimaryOnly: no standby can be proved fresh enough now; Why says why.
	PrimaryOnly bool
	Why         string
	// Lost: the session had seen positions past the fork of the new timeline, so that something acknowledged may have
	// been lost. It is told once.
	Lost bool
	// Token must have been replayed by any standby.
	Token replication.LSN
	// Sticky, in incarnation StickyLife, needs no more than Token; every other standby must have replayed SwitchToken
	// too, or may not serve at all if SwitchUnknown.
	Sticky        replication.NodeID
	StickyLife    int64
	SwitchToken   replication.LSN
	SwitchUnknown bool
	Bounded       bool // the thresholds on lag apply
}

// Touched notes that a turn on the primary ended at now, whether it wrote or read.
func (c *Consistency) Touched(now replication.Instant) {
	c.touched, c.sticky = now, ""
}

// ReadFrom notes that a read on the standby with that status (as the board showed it when it was chosen) ended at now.
func (c *Consistency) ReadFrom(status replication.Status, now replication.Instant) {
	c.sticky, c.life, c.readAt = status.Node, status.Incarnation, now
}

// Require returns what a read that arrived at arrival needs at the given level; LevelUnset counts as LevelSession.
func (c *Consistency) Require(level Level, arrival replication.Instant, view *replication.View, board *replication.StatusBoard) Requirement {
	switch level {
	case LevelEventual:
		return Requirement{}
	case LevelBounded:
		return Requirement{Bounded: true}
	case LevelStrong:
		sample, ok := board.Since(view.Epoch, arrival)
		if !ok {
			return Requirement{PrimaryOnly: true, Why: "no flush position of the primary was sampled after the read arrived"}
		}
		return Requirement{Bounded: true, Token: sample.Flush}
	}
	lost := c.cross(view)
	if c.touched != 0 {
		sample, ok := board.Since(view.Epoch, c.touched)
		if !ok {
			return Requirement{PrimaryOnly: true, Lost: lost, Why: "no flush position was sampled after the session used the primary"}
		}
		c.touched, c.token, c.epoch = 0, sample.Flush, view.Epoch
	}
	r := Requirement{Bounded: true, Lost: lost, Token: c.token}
	if c.sticky == "" {
		return r
	}
	r.Sticky, r.StickyLife = c.sticky, c.life
	st := board.Status(c.sticky)
	if st.Incarnation == c.life && st.Replayed.Known() && !st.AskedAt.Before(c.readAt) {
		r.SwitchToken = st.Replayed
		return r
	}
	sample, ok := board.Since(view.Epoch, c.readAt)
	r.SwitchToken, r.SwitchUnknown = sample.Flush, !ok // no standby has replayed what the primary had not flushed
	return r
}

// cross carries the token into the view's epoch. At or before the fork of the next epoch it stays valid; otherwise a
// sample of the new epoch is needed, which covers whatever survived.
func (c *Consistency) cross(view *replication.View) (lost bool) {
	if c.token == 0 || c.epoch == view.Epoch {
		return false
	}
	next := view.Epoch == c.epoch+1 && view.Open
	if next && c.token <= view.ForkLSN {
		c.epoch = view.Epoch
		return false
	}
	if !view.Open {
		return false // the fork is not known yet; the token compares with the old timeline until then
	}
	c.token, c.epoch = 0, view.Epoch
	c.touched = max(c.touched, anySample)
	return next
}
