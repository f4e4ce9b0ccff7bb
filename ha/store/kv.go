package store

import (
	"context"
	"time"

	"github.com/walgate/walgate/replication"
)

// Lease names an etcd lease; keys bound to it vanish when it is not kept. The zero Lease binds to nothing.
type Lease int64

// compare holds when the key was last changed at rev; rev 0 means that the key is absent.
type compare struct {
	key string
	rev int64
}

// op is one read or write of a transaction.
type op struct {
	kind  opKind
	key   string
	end   string // of the range [key, end); empty: the key alone
	value []byte
	lease Lease
	limit int // ranges only: the last limit keys, in descending order; 0: all, in ascending order
}

type opKind uint8

const (
	opRange opKind = iota
	opPut
	opDelete
)

type item struct {
	key   string
	value []byte
	rev   int64 // of the last change
}

// result is the outcome of a transaction.
type result struct {
	ok     bool // the compares held, the ops were carried out
	rev    int64
	sentAt replication.Instant
	ranges [][]item // of the range ops, in order
}

// kv is the part of etcd that a Store needs. Its errors wrap ErrUnknown, ErrUnavailable or ErrLeaseLost.
type kv interface {
	txn(ctx context.Context, compares []compare, ops []op) (result, error)
	grant(ctx context.Context, ttl time.Duration) (Lease, error)
	keep(ctx context.Context, lease Lease) error
	revoke(ctx context.Context, lease Lease) error
	// watch calls changed after each change under the prefix, and once whenever changes may have been missed, until
	// ctx ends.
	watch(ctx context.Context, prefix string, changed func())
	close() error
}
