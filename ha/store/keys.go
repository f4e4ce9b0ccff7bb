package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// Names below the prefix. Epochs are padded, so that keys sort as numbers do.
const (
	keyRecord  = "record"
	keyBeat    = "beat"
	keyInit    = "init"
	keyVotes   = "votes/"
	keyLedger  = "ledger/"
	keyNodes   = "nodes/"
	keyProxies = "proxies/"
)

// voteValue is a vote as it is stored; withdrawn ones keep the key's revision moving (see DeleteVote).
type voteValue struct {
	ha.Vote
	Withdrawn bool `json:"withdrawn,omitempty"`
}

func epochName(epoch replication.Epoch) string { return fmt.Sprintf("%020d", uint64(epoch)) }

func (s *Store) key(name string) string { return s.prefix + name }

func (s *Store) voteKey(epoch replication.Epoch, node replication.NodeID) string {
	return s.prefix + keyVotes + epochName(epoch) + "/" + string(node)
}

// put encodes v; a value that cannot be encoded is left nil, which swap refuses.
func (s *Store) put(name string, v any) op {
	value, err := json.Marshal(v)
	if err != nil {
		value = nil
	}
	return op{kind: opPut, key: s.key(name), value: value}
}

// prefixEnd returns the end of the range of all keys that start with the prefix, which ends in '/'.
func prefixEnd(prefix string) string { return prefix[:len(prefix)-1] + "0" } // '0' follows '/'

// readOps reads everything; decode relies on the order.
func (s *Store) readOps() []op {
	folder := func(name string, limit int) op {
		return op{kind: opRange, key: s.key(name), end: prefixEnd(s.key(name)), limit: limit}
	}
	return []op{
		{kind: opRange, key: s.key(keyRecord)},
		{kind: opRange, key: s.key(keyBeat)},
		{kind: opRange, key: s.key(keyInit)},
		folder(keyVotes, 0),
		folder(keyLedger, LedgerWindow),
		folder(keyNodes, 0),
		folder(keyProxies, 0),
	}
}

func (s *Store) decode(res result) (Snapshot, error) {
	snap := Snapshot{SentAt: res.sentAt, Revision: res.rev}
	if len(res.ranges) != len(s.readOps()) {
		return Snapshot{}, fmt.Errorf("read %s: %d answers: %w", s.prefix, len(res.ranges), ErrUnavailable)
	}
	for i, items := range res.ranges {
		if i == 4 {
			slices.Reverse(items)
		}
		for _, it := range items {
			if err := snap.add(it, strings.TrimPrefix(it.key, s.prefix)); err != nil {
				return Snapshot{}, &CorruptError{Key: it.key, Err: err}
			}
		}
	}
	return snap, nil
}

// add decodes one key into the snapshot.
func (s *Snapshot) add(it item, name string) error {
	folder, _, _ := strings.Cut(name, "/")
	switch folder {
	case keyRecord:
		s.Record, s.RecordRev = new(ha.Record), it.rev
		return decodeStrict(it.value, s.Record)
	case keyBeat:
		s.Beat, s.BeatRev = new(ha.Beat), it.rev
		return decodeStrict(it.value, s.Beat)
	case keyInit:
		s.InitRev = it.rev
		return decodeStrict(it.value, &s.InitHolder)
	case "votes":
		var v voteValue
		if err := decodeStrict(it.value, &v); err != nil {
			return err
		}
		if name != keyVotes+epochName(v.Epoch)+"/"+string(v.Node) {
			return fmt.Errorf("vote of %q for epoch %d", v.Node, v.Epoch)
		}
		if !v.Withdrawn {
			s.Votes = append(s.Votes, VoteRev{Vote: v.Vote, Rev: it.rev})
		}
		return nil
	case "ledger":
		return appendDecoded(&s.Ledger, it.value, func(e ha.LedgerEntry) bool { return name == keyLedger+epochName(e.Epoch) })
	case "nodes":
		return appendDecoded(&s.Nodes, it.value, func(r ha.NodeReport) bool { return name == keyNodes+string(r.Name) })
	case "proxies":
		return appendDecoded(&s.Proxies, it.value, func(r ha.ProxyReport) bool { return name == keyProxies+r.ID })
	}
	return nil
}

// appendDecoded decodes a value and appends it if it belongs under its key.
func appendDecoded[T any](to *[]T, value []byte, belongs func(T) bool) error {
	var v T
	if err := decodeStrict(value, &v); err != nil {
		return err
	}
	if !belongs(v) {
		return fmt.Errorf("value belongs under another key: %.200s", value)
	}
	*to = append(*to, v)
	return nil
}

// decodeStrict refuses unknown fields and trailing bytes: a value that is half understood must not be acted upon.
func decodeStrict(value []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("decode: trailing bytes")
	}
	return nil
}
