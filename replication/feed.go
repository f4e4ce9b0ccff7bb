package replication

import (
	"context"
	"sync"
)

// Feed shares the latest value of T: readers see the newest, never a queue of old ones. It is safe for concurrent use.
// The zero Feed holds the zero T and is ready.
type Feed[T any] struct {
	mu      sync.Mutex
	value   T
	changed chan struct{} // closed by Publish, and replaced
}

// Load returns the latest value.
func (f *Feed[T]) Load() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.value
}

// Publish makes v the latest value and wakes all who wait for a change.
func (f *Feed[T]) Publish(v T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value = v
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Changed returns the latest value and a channel that is closed at the next Publish.
func (f *Feed[T]) Changed() (T, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.value, f.changed
}

// Wait returns the first value for which ok holds, or the cause of the context's end.
func (f *Feed[T]) Wait(ctx context.Context, ok func(T) bool) (T, error) {
	for {
		v, changed := f.Changed()
		if ok(v) {
			return v, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}
