package session

// Counts are what the sessions of a driver have moved since it was made.
type Counts struct {
	FromClients   int64 // bytes
	FromServers   int64 // bytes
	PrimaryTurns  int64 // ReadyForQuery messages from primaries
	StandbyTurns  int64 // and from standbys
	LoginFailures int64
}

// Plus returns the sum.
func (c Counts) Plus(other Counts) Counts {
	c.FromClients += other.FromClients
	c.FromServers += other.FromServers
	c.PrimaryTurns += other.PrimaryTurns
	c.StandbyTurns += other.StandbyTurns
	c.LoginFailures += other.LoginFailures
	return c
}
