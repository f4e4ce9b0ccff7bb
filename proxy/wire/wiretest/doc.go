// Package wiretest plays both ends of the protocol for tests: Postgres is a small PostgreSQL that answers bytes with
// bytes, and Script speaks as a client. Both use jackc/pgproto3/v2, a codec independent of package wire.
package wiretest
