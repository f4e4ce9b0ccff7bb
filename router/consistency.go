package router

import "github.com/walgate/walgate/replication"

// Consistency is what one session must be able to see at LevelSession: its own writes, what it was given a CausalToken of, and
// never less than before. The zero Consistency has seen nothing. It belongs to its session and is not safe for concurrent
// use. Instants are this machine's.
//
// A turn on the primary only marks the session; a flush position of the primary that was asked for after the mark
// covers everything the session wrote or read there, and everything any standby can have shown it before. Reads on a
// standby make the session stick to it; another standby must have replayed what the first one had after that read.
// Require learns: who asks a copy gives the copy back to the session, or the session is not told of Lost.
type Consistency struct {
	touched replication.Instant // end of the last turn on the primary that no sample has covered yet; 0: none
	async   bool                // since then something may have been committed that did not wait for the flush
	lost    bool                // a token was found lost, and the session has not been told
	epoch   replication.Epoch   // to which token belongs
	token   replication.LSN     // what a standby must have replayed; 0: nothing
	given   CausalToken         // a token that could not be judged yet
	sticky  replication.NodeID  // the standby of the last read; empty: none since the last turn on the primary
	life    int64               // its Life
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
	// Sticky, in its StickyLife, needs no more than Token; every other standby must have replayed SwitchToken
	// too, or may not serve at all if SwitchUnknown.
	Sticky        replication.NodeID
	StickyLife    int64
	SwitchToken   replication.LSN
	SwitchUnknown bool
	Bounded       bool // the thresholds on lag apply
}

// Proof reports whether a standby is chosen by what it said of itself: a server connection that was opened after it said
// so does not belong to the same life for certain, and may show less.
func (r *Requirement) Proof() bool { return r.Token.Known() || r.Sticky != "" }

// Touched notes that a turn on the primary ended at now, whether it wrote or read. async tells that it may have
// committed without waiting for the flush of its commit.
func (c *Consistency) Touched(now replication.Instant, async bool) {
	c.touched, c.sticky = now, ""
	c.async = c.async || async
}

// ReadFrom notes that a read on the standby with that status (as the board showed it when it was chosen) ended at now.
func (c *Consistency) ReadFrom(status replication.Status, now replication.Instant) {
	c.sticky, c.life, c.readAt = status.Node, status.Life, now
}

// OnStandby reports whether the session's last turn was a read on a standby.
func (c *Consistency) OnStandby() bool { return c.sticky != "" }

// Raise makes the session see what the token stands for. lost tells that it did not survive a change of primary: then
// the session must see what did survive. What the view can't tell yet is decided by Require.
func (c *Consistency) Raise(t CausalToken, view *replication.View) (lost bool) {
	if c.given == (CausalToken{}) || t.later(c.given) {
		c.given = t
	}
	c.lost = c.cross(view) || c.lost
	return c.settle(view)
}

// Require returns what a read that arrived at arrival needs at the given level; LevelUnset counts as LevelSession.
func (c *Consistency) Require(level Level, arrival replication.Instant, view *replication.View, board *replication.StatusBoard) Requirement {
	switch level {
	case LevelEventual:
		return Requirement{}
	case LevelBounded:
		return Requirement{Bounded: true}
	}
	lost := c.cross(view)
	lost = c.settle(view) || lost || c.lost
	c.lost = false
	if c.given.Epoch > view.Epoch {
		return Requirement{PrimaryOnly: true, Lost: lost, Why: "the token is of an epoch that is not known here yet"}
	}
	if level == LevelStrong {
		sample, ok := board.Since(view.Epoch, arrival)
		if !ok {
			return Requirement{PrimaryOnly: true, Lost: lost, Why: "no flush position of the primary was sampled after the read arrived"}
		}
		return Requirement{Bounded: true, Lost: lost, Token: max(c.covered(sample), c.given.Position)}
	}
	if c.touched != 0 {
		sample, ok := board.Since(view.Epoch, c.touched)
		if !ok {
			return Requirement{PrimaryOnly: true, Lost: lost, Why: "no flush position was sampled after the session used the primary"}
		}
		c.token, c.epoch = max(c.token, c.covered(sample)), view.Epoch
		c.touched, c.async = 0, false
	}
	r := Requirement{Bounded: true, Lost: lost, Token: max(c.token, c.given.Position)}
	if c.sticky == "" {
		return r
	}
	r.Sticky, r.StickyLife = c.sticky, c.life
	st := board.Status(c.sticky)
	if st.Life == c.life && st.Replayed.Known() && !st.AskedAt.Before(c.readAt) {
		r.SwitchToken = st.Replayed
		return r
	}
	sample, ok := board.Since(view.Epoch, c.readAt)
	r.SwitchToken, r.SwitchUnknown = sample.Flush, !ok // no standby has replayed what the primary had not flushed
	return r
}

// covered is the position of a sample up to which the session's commits lie.
func (c *Consistency) covered(sample replication.Sample) replication.LSN {
	if c.async {
		return max(sample.Flush, sample.Insert)
	}
	return sample.Flush
}

// cross carries the token into the view's epoch. If it has survived it stays valid; otherwise a sample of the new epoch is
// needed, which covers whatever survived.
func (c *Consistency) cross(view *replication.View) (lost bool) {
	if c.token == 0 || c.epoch == view.Epoch || !view.Open {
		return false // while the fork is not known, the token compares with the old timeline
	}
	fate := view.Fate(c.epoch, c.token)
	c.epoch = view.Epoch
	if fate != replication.FateSurvived {
		c.token = 0
		c.touched = max(c.touched, anySample)
	}
	return fate == replication.FateLost
}

// settle makes the given token part of the session's own, as soon as the view can tell what became of it. Call it after
// cross.
func (c *Consistency) settle(view *replication.View) (lost bool) {
	if c.given == (CausalToken{}) || c.given.Epoch > view.Epoch || !view.Open {
		return false
	}
	given := c.given
	c.given = CausalToken{}
	switch fate := view.Fate(given.Epoch, given.Position); fate {
	case replication.FateSurvived:
		c.token, c.epoch = max(c.token, given.Position), view.Epoch
		return false
	default:
		c.touched = max(c.touched, anySample)
		return fate == replication.FateLost
	}
}
