package session

// Counts are what the sessions of a driver have moved since it was made.
type Counts struct {
	FromClients   int64 // bytes
	FromServers   int64 // bytes
	PrimaryTurns  int64 // ReadyForQuery messages from primaries
	StandbyTurns  int64 // and from standbys
	LoginFailures int64
	Calls         Calls
}

// Plus returns the sum.
func (c Counts) Plus(other Counts) Counts {
	c.FromClients += other.FromClients
	c.FromServers += other.FromServers
	c.PrimaryTurns += other.PrimaryTurns
	c.StandbyTurns += other.StandbyTurns
	c.LoginFailures += other.LoginFailures
	c.Calls.Reads += other.Calls.Reads
	c.Calls.Writes += other.Calls.Writes
	c.Calls.Waits += other.Calls.Waits
	return c
}

// Calls are system calls of a driver that makes them itself; none for one that leaves them to the Go runtime.
type Calls struct{ Reads, Writes, Waits int64 }
