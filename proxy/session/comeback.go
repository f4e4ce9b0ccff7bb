package session

// comeback brings a session whose reads run on the primary back to the standbys. What it reads there is newer than what
// any standby is known to have, so while it goes on without a pause the next read has to run there, too. Now and then
// such a read waits a moment for a standby. One right behind a write does not; nor do many in vain.
type comeback struct {
	reads uint16 // on the primary since the last attempt
	gap   uint16 // how many reads lie between two attempts; 0 counts as 1
	after bool   // the last turn was such a read
	tried bool   // the turn in progress is an attempt
}

// maxComebackGap bounds the reads between attempts that are in vain.
const maxComebackGap = 256

// attempt decides whether the read that begins is one. It may be asked again for the same turn.
func (c *comeback) attempt() bool {
	c.tried = c.tried || c.after && c.reads >= max(c.gap, 1)
	return c.tried
}

// primary notes that a turn on the primary has ended.
func (c *comeback) primary(read bool) {
	switch {
	case c.tried:
		c.gap, c.reads = min(2*max(c.gap, 1), maxComebackGap), 0
	case read:
		c.reads = min(c.reads+1, maxComebackGap)
	}
	c.tried, c.after = false, read
}

// standby notes that a read has ended on a standby.
func (c *comeback) standby() { *c = comeback{} }
