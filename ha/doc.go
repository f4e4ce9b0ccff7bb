// Package ha decides who is primary and what a node does next. It is pure: Decide maps an Observation (a snapshot of
// the store, of the local PostgreSQL and of this machine's clock) to a Decision – one move for the lease hand, one for
// the PostgreSQL hand, and why. It performs nothing; package agent does. The record, the beat, the votes and the
// ledger that all nodes share are defined here, the quorum arithmetic that keeps acknowledged commits alive, and the
// verdict on how an old primary returns. The protocol is told in docs/leadership.md.
package ha
