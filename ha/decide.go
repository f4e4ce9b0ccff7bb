package ha

// Decide says what to do now. It is a pure function of the observation.
func Decide(o Observation) Decision {
	return Decision{Lease: LeaseMove{Kind: LeaseKeep}, Postgres: PostgresMove{Kind: PostgresLeave}, Why: "nothing known yet"}
}
