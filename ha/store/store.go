package store

import (
	"context"
	"fmt"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// Store reads and changes one cluster's keys. Every method is bounded by its context and by the request timeout of the
// implementation, whichever is shorter.
type Store struct {
	kv      kv
	cluster string
	prefix  string // "/walgate/<cluster>/"
}

func newStore(kv kv, cluster string) *Store {
	return &Store{kv: kv, cluster: cluster, prefix: "/walgate/" + cluster + "/"}
}

// Cluster returns the cluster's name.
func (s *Store) Cluster() string { return s.cluster }

// Close ends the connections to the store. Watches and followers must have ended before.
func (s *Store) Close() error { return s.kv.close() }

// Read returns the newest state: everything committed before the call. Errors: ErrUnavailable, *CorruptError.
func (s *Store) Read(ctx context.Context) (Snapshot, error) {
	res, err := s.kv.txn(ctx, nil, s.readOps())
	if err != nil {
		return Snapshot{}, fmt.Errorf("read %s: %w", s.prefix, err)
	}
	return s.decode(res)
}

// CreateRecord creates the record of a new cluster. It is refused (ErrConflict) when there is a record, or when initRev
// is not 0 and the init lock was not taken at that revision or is gone.
func (s *Store) CreateRecord(ctx context.Context, record ha.Record, initRev int64) (rev int64, err error) {
	compares := []compare{{s.key(keyRecord), 0}}
	if initRev != 0 {
		compares = append(compares, compare{s.key(keyInit), initRev})
	}
	return s.swap(ctx, "create record", compares, s.put(keyRecord, record))
}

// PutRecord replaces the record whose revision is prevRev and returns the new revision.
func (s *Store) PutRecord(ctx context.Context, prevRev int64, record ha.Record) (rev int64, err error) {
	if prevRev == 0 {
		return 0, fmt.Errorf("put record: no previous revision: %w", ErrConflict)
	}
	return s.swap(ctx, "put record", []compare{{s.key(keyRecord), prevRev}}, s.put(keyRecord, record))
}

// PutBeat replaces the beat whose revision is prevRev and returns the new revision. Take the lease's start before the
// call. After ErrUnknown or ErrConflict read: one's own nonce and n mean that this beat was written.
func (s *Store) PutBeat(ctx context.Context, prevRev int64, beat ha.Beat) (rev int64, err error) {
	return s.swap(ctx, "put beat", []compare{{s.key(keyBeat), prevRev}}, s.put(keyBeat, beat))
}

// Claim is a bid for the next epoch. Revisions are those of the snapshot from which it was judged; 0 for an absent beat.
type Claim struct {
	RecordRev int64
	BeatRev   int64
	Votes     []VoteRev // the counted votes
	Record    ha.Record // epoch + 1, open = false
	Beat      ha.Beat   // with the claimer's nonce
}

// Claim writes record and beat in one transaction if record, beat and the counted votes are unchanged. A pause is a
// change of the record: a claim judged before it is refused inside its own transaction, and one whose record is paused
// is refused here. Votes for epochs before the claimed one are removed. The revision returned is that of both keys.
func (s *Store) Claim(ctx context.Context, c Claim) (rev int64, err error) {
	switch {
	case c.Record.Paused:
		return 0, fmt.Errorf("claim epoch %d: the cluster is paused: %w", c.Record.Epoch, ErrConflict)
	case c.RecordRev == 0:
		return 0, fmt.Errorf("claim epoch %d: there is no record: %w", c.Record.Epoch, ErrConflict)
	}
	compares := []compare{{s.key(keyRecord), c.RecordRev}, {s.key(keyBeat), c.BeatRev}}
	for _, v := range c.Votes {
		compares = append(compares, compare{s.voteKey(v.Epoch, v.Node), v.Rev})
	}
	return s.swap(ctx, fmt.Sprintf("claim epoch %d", c.Record.Epoch), compares,
		s.put(keyRecord, c.Record), s.put(keyBeat, c.Beat),
		op{kind: opDelete, key: s.key(keyVotes), end: s.voteKey(c.Record.Epoch, "")})
}

// OpenDoor lets writes through: the record with open = true and the ledger's entry of its epoch.
type OpenDoor struct {
	RecordRev int64
	BeatRev   int64
	Record    ha.Record
	Entry     ha.LedgerEntry
}

// OpenDoor writes the record and creates the ledger's entry in one transaction if record and beat are unchanged and
// the epoch has no entry. After ErrConflict read: an entry of this epoch by this winner means that it happened.
func (s *Store) OpenDoor(ctx context.Context, d OpenDoor) (rev int64, err error) {
	name := keyLedger + epochName(d.Entry.Epoch)
	compares := []compare{{s.key(keyRecord), d.RecordRev}, {s.key(keyBeat), d.BeatRev}, {s.key(name), 0}}
	return s.swap(ctx, fmt.Sprintf("open epoch %d", d.Entry.Epoch), compares,
		s.put(keyRecord, d.Record), s.put(name, d.Entry))
}

// PutVote writes the node's vote. It reads the key first and swaps, so that a write whose outcome was unknown can never
// come to stand after DeleteVote has answered.
func (s *Store) PutVote(ctx context.Context, vote ha.Vote) (rev int64, err error) {
	return s.swapVote(ctx, vote.Epoch, vote.Node, voteValue{Vote: vote})
}

// DeleteVote withdraws a vote, whether it is there or not: when it has answered without error, no earlier PutVote of
// this node for the epoch stands or can come to stand. The key stays as a tombstone until the epoch is past.
func (s *Store) DeleteVote(ctx context.Context, epoch replication.Epoch, node replication.NodeID) error {
	_, err := s.swapVote(ctx, epoch, node, voteValue{Vote: ha.Vote{Epoch: epoch, Node: node}, Withdrawn: true})
	return err
}

// AcquireInit makes holder the one who runs initdb until the returned lease is lost (ttl after the last KeepLease) or
// released. ErrConflict: someone else does. rev is what CreateRecord compares.
func (s *Store) AcquireInit(ctx context.Context, holder replication.NodeID, ttl time.Duration) (lease Lease, rev int64, err error) {
	lease, err = s.Grant(ctx, ttl)
	if err != nil {
		return 0, 0, err
	}
	put := s.put(keyInit, holder)
	put.lease = lease
	rev, err = s.swap(ctx, "acquire init", []compare{{s.key(keyInit), 0}}, put)
	if err != nil {
		_ = s.kv.revoke(ctx, lease) // it expires by itself
		return 0, 0, err
	}
	return lease, rev, nil
}

// ReleaseInit gives the init lock back by revoking its lease.
func (s *Store) ReleaseInit(ctx context.Context, lease Lease) error { return s.Revoke(ctx, lease) }

// Grant creates an etcd lease. Etcd rounds up to whole seconds and has a floor near 2 s.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (Lease, error) {
	lease, err := s.kv.grant(ctx, ttl)
	if err != nil {
		return 0, fmt.Errorf("grant lease: %w", err)
	}
	return lease, nil
}

// KeepLease extends the lease to its full ttl. ErrLeaseLost: it has expired.
func (s *Store) KeepLease(ctx context.Context, lease Lease) error {
	if err := s.kv.keep(ctx, lease); err != nil {
		return fmt.Errorf("keep lease: %w", err)
	}
	return nil
}

// Revoke ends the lease and removes the keys bound to it. A lease that is gone already is no error.
func (s *Store) Revoke(ctx context.Context, lease Lease) error {
	if err := s.kv.revoke(ctx, lease); err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// PutNode writes a node's report, bound to the lease. See NewNodeRegistration.
func (s *Store) PutNode(ctx context.Context, report ha.NodeReport, lease Lease) error {
	put := s.put(keyNodes+string(report.Name), report)
	put.lease = lease
	_, err := s.swap(ctx, "put report of "+string(report.Name), nil, put)
	return err
}

// PutProxy writes a proxy's report, bound to the lease. See NewProxyRegistration.
func (s *Store) PutProxy(ctx context.Context, report ha.ProxyReport, lease Lease) error {
	put := s.put(keyProxies+report.ID, report)
	put.lease = lease
	_, err := s.swap(ctx, "put report of proxy "+report.ID, nil, put)
	return err
}

// DeleteNode removes a node's report; one that is gone already is no error.
func (s *Store) DeleteNode(ctx context.Context, name replication.NodeID) error {
	_, err := s.swap(ctx, "delete report of "+string(name), nil, op{kind: opDelete, key: s.key(keyNodes + string(name))})
	return err
}

// Watch calls changed after each change under the cluster's prefix, and whenever one may have been missed, until ctx
// ends. It announces, and is never a source of truth: it may be late, coalesced or silent for some seconds.
func (s *Store) Watch(ctx context.Context, changed func()) { s.kv.watch(ctx, s.prefix, changed) }

// swap carries the ops out if the compares hold.
func (s *Store) swap(ctx context.Context, what string, compares []compare, ops ...op) (int64, error) {
	for _, o := range ops {
		if o.kind == opPut && o.value == nil {
			return 0, fmt.Errorf("%s: encode %s", what, o.key)
		}
	}
	res, err := s.kv.txn(ctx, compares, ops)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", what, err)
	case !res.ok:
		return 0, fmt.Errorf("%s: %w", what, ErrConflict)
	}
	return res.rev, nil
}

// swapVote replaces whatever stands in the vote's key at the time of the call.
func (s *Store) swapVote(ctx context.Context, epoch replication.Epoch, node replication.NodeID, v voteValue) (int64, error) {
	key := s.voteKey(epoch, node)
	what := fmt.Sprintf("vote of %s for epoch %d", node, epoch)
	res, err := s.kv.txn(ctx, nil, []op{{kind: opRange, key: key}})
	if err != nil {
		return 0, fmt.Errorf("%s: read: %w", what, err)
	}
	var rev int64
	if found := res.ranges[0]; len(found) > 0 {
		rev = found[0].rev
	}
	return s.swap(ctx, what, []compare{{key, rev}}, s.put(key[len(s.prefix):], v))
}
