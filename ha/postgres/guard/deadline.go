package guard

import "github.com/walgate/walgate/replication"

// Deadline is when the guard kills the instance unless it is renewed: absolute, on this machine's CLOCK_BOOTTIME. The
// zero Deadline (no epoch) is the state of a standby, or of a paused cluster: nothing is killed.
type Deadline struct {
	Epoch replication.Epoch   `json:"epoch"`
	Nonce string              `json:"nonce"` // of the agent's incarnation that set it
	At    replication.Instant `json:"at"`
}

// Armed reports whether there is a deadline.
func (d Deadline) Armed() bool { return d.Epoch != 0 }
