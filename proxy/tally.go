package proxy

import (
	"maps"
	"sync"
)

// maxTallied bounds the names of a tally.
const maxTallied = 1000

// tally counts by name; what has no room is counted as "other".
type tally struct {
	mu     sync.Mutex
	counts map[string]uint64
}

func (t *tally) add(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]uint64{}
	}
	if _, known := t.counts[name]; !known && len(t.counts) >= maxTallied {
		name = "other"
	}
	t.counts[name]++
}

func (t *tally) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}
