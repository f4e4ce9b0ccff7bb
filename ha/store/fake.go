package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/walgate/walgate/replication"
)

// Fault is what happens to one request on its way to or from the Fake. The zero Fault lets it pass.
type Fault struct {
	// Delay is how long the request travels. A caller whose context ends meanwhile gets ErrUnknown (writes) or
	// ErrUnavailable (reads), and the write takes effect all the same when it arrives.
	Delay time.Duration
	// Drop: it never arrives, and the caller knows: ErrUnavailable.
	Drop bool
	// Stall: it never arrives, and the caller does not know: it waits until its time is over.
	Stall bool
	// Unknown: it takes effect and the answer is lost at once: ErrUnknown (writes), ErrUnavailable (reads).
	Unknown bool
}

// Request describes a request to a fault hook.
type Request struct {
	Op   string   // "read", "write", "lease" or "watch"
	Keys []string // that it would write, below the cluster's prefix
}

// Fake is an etcd in memory, for tests: same transactions, revisions and leases, and faults to order. All stores made
// of one Fake share its content. It is safe for concurrent use, and works in a synctest bubble.
type Fake struct {
	clock   func() replication.Instant
	timeout time.Duration
	late    sync.WaitGroup // requests still travelling

	mu       sync.Mutex
	rev      int64
	keys     map[string]fakeKey
	leases   map[Lease]*fakeLease
	next     Lease
	watchers map[*fakeWatcher]bool
}

type fakeKey struct {
	item
	lease Lease
}

type fakeLease struct {
	ttl     time.Duration
	expires replication.Instant
}

type fakeWatcher struct {
	prefix string
	wake   chan struct{} // capacity 1; never closed
}

// NewFake returns an empty store whose leases live by the clock and whose requests take at most the timeout.
func NewFake(clock func() replication.Instant, timeout time.Duration) *Fake {
	return &Fake{
		clock: clock, timeout: timeout, rev: 1, next: 1,
		keys: map[string]fakeKey{}, leases: map[Lease]*fakeLease{}, watchers: map[*fakeWatcher]bool{},
	}
}

// Store returns the access of one participant. fault is asked before each request and each announcement of a watch
// ("watch": any fault but the zero one swallows it); nil means no faults.
func (f *Fake) Store(cluster string, fault func(Request) Fault) *Store {
	if fault == nil {
		fault = func(Request) Fault { return Fault{} }
	}
	prefix := "/walgate/" + cluster + "/"
	return newStore(&fakeKV{fake: f, fault: fault, prefix: prefix}, cluster)
}

// Settle waits until every delayed request has arrived.
func (f *Fake) Settle() { f.late.Wait() }

// SetRaw writes bytes under a full key, for tests of damaged stores; nil removes it.
func (f *Fake) SetRaw(key string, value []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rev++
	f.keys[key] = fakeKey{item: item{key: key, value: value, rev: f.rev}}
	if value == nil {
		delete(f.keys, key)
	}
	f.announce(key)
}

// announce wakes the watchers of the key. The caller holds mu.
func (f *Fake) announce(key string) {
	for w := range f.watchers {
		if strings.HasPrefix(key, w.prefix) {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// expire removes what outlived its lease. The caller holds mu.
func (f *Fake) expire() {
	now := f.clock()
	for id, lease := range f.leases {
		if now >= lease.expires {
			f.drop(id)
		}
	}
}

// drop ends a lease. The caller holds mu.
func (f *Fake) drop(id Lease) {
	delete(f.leases, id)
	f.rev++
	for key, k := range f.keys {
		if k.lease == id {
			delete(f.keys, key)
			f.announce(key)
		}
	}
}

// apply carries a transaction out, as etcd does: all or nothing, one revision for all its writes.
func (f *Fake) apply(compares []compare, ops []op) (result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire()
	for _, c := range compares {
		if f.keys[c.key].rev != c.rev {
			return result{rev: f.rev}, nil
		}
	}
	for _, o := range ops {
		if o.lease != 0 && f.leases[o.lease] == nil {
			return result{}, ErrLeaseLost
		}
	}
	res := result{ok: true}
	wrote := false
	for _, o := range ops {
		switch o.kind {
		case opRange:
			res.ranges = append(res.ranges, f.find(o))
		case opPut:
			f.keys[o.key] = fakeKey{item: item{key: o.key, value: o.value, rev: f.rev + 1}, lease: o.lease}
			f.announce(o.key)
			wrote = true
		case opDelete:
			for _, it := range f.find(o) {
				delete(f.keys, it.key)
				f.announce(it.key)
				wrote = true
			}
		}
	}
	if wrote {
		f.rev++
	}
	res.rev = f.rev
	return res, nil
}

// find returns the items of an op's range. The caller holds mu.
func (f *Fake) find(o op) []item {
	var items []item
	for key, k := range f.keys {
		if key == o.key || o.end != "" && key >= o.key && key < o.end {
			items = append(items, k.item)
		}
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	if o.limit > 0 {
		slices.Reverse(items)
		items = items[:min(len(items), o.limit)]
	}
	return items
}

// fakeKV is one participant's way to the Fake.
type fakeKV struct {
	fake   *Fake
	fault  func(Request) Fault
	prefix string
}

func (k *fakeKV) txn(ctx context.Context, compares []compare, ops []op) (result, error) {
	req := Request{Op: "read"}
	for _, o := range ops {
		if o.kind != opRange {
			req.Op = "write"
			req.Keys = append(req.Keys, strings.TrimPrefix(o.key, k.prefix))
		}
	}
	var res result
	sentAt := k.fake.clock()
	err := k.send(ctx, req, func() (err error) {
		r, err := k.fake.apply(compares, ops)
		r.sentAt = sentAt
		res = r
		return err
	})
	if err != nil {
		return result{}, err
	}
	return res, nil
}

// send lets the request travel. do runs at most once, and after its caller has left if the fault says so.
func (k *fakeKV) send(ctx context.Context, req Request, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, k.fake.timeout)
	defer cancel()
	lost := ErrUnavailable
	if req.Op == "write" {
		lost = ErrUnknown
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	fault := k.fault(req)
	switch {
	case fault.Drop:
		return fmt.Errorf("dropped: %w", ErrUnavailable)
	case fault.Stall:
		<-ctx.Done()
		return fmt.Errorf("%w: %w", lost, ctx.Err())
	case fault.Delay == 0:
		err := do()
		if fault.Unknown {
			return fmt.Errorf("answer dropped: %w", lost)
		}
		return err
	}
	answer := make(chan error, 1)
	k.fake.late.Go(func() { // ends after the delay
		time.Sleep(fault.Delay)
		answer <- do()
	})
	select {
	case err := <-answer:
		if fault.Unknown {
			return fmt.Errorf("answer dropped: %w", lost)
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", lost, ctx.Err())
	}
}

func (k *fakeKV) grant(ctx context.Context, ttl time.Duration) (Lease, error) {
	var id Lease
	err := k.send(ctx, Request{Op: "lease"}, func() error {
		f := k.fake
		f.mu.Lock()
		defer f.mu.Unlock()
		f.leases[f.next] = &fakeLease{ttl: ttl, expires: f.clock().Add(ttl)}
		id = f.next
		f.next++
		return nil
	})
	if err != nil {
		return 0, err
	}
	return id, nil
}

func (k *fakeKV) keep(ctx context.Context, id Lease) error {
	return k.send(ctx, Request{Op: "lease"}, func() error {
		f := k.fake
		f.mu.Lock()
		defer f.mu.Unlock()
		f.expire()
		lease := f.leases[id]
		if lease == nil {
			return ErrLeaseLost
		}
		lease.expires = f.clock().Add(lease.ttl)
		return nil
	})
}

func (k *fakeKV) revoke(ctx context.Context, id Lease) error {
	return k.send(ctx, Request{Op: "lease"}, func() error {
		f := k.fake
		f.mu.Lock()
		defer f.mu.Unlock()
		f.drop(id)
		return nil
	})
}

func (k *fakeKV) watch(ctx context.Context, prefix string, changed func()) {
	w := &fakeWatcher{prefix: prefix, wake: make(chan struct{}, 1)}
	f := k.fake
	f.mu.Lock()
	f.watchers[w] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, w)
		f.mu.Unlock()
	}()
	changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			if k.fault(Request{Op: "watch"}) == (Fault{}) {
				changed()
			}
		}
	}
}

func (k *fakeKV) close() error { return nil }
