// Package store keeps what all nodes and proxies of a cluster share in etcd: the record, the beat, votes, the ledger and
// registrations, as docs/leadership.md lays them out. A Store reads them in one linearizable transaction and changes
// them by compare-and-swap; it decides nothing. A Follower keeps a fresh Snapshot, the View and the write Gate; a
// Registration keeps a report alive; a Member runs an embedded etcd server. Fake has the same semantics in memory, with
// faults to order. Stores, Followers and Registrations are safe for concurrent use.
package store
