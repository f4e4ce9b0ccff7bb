package session

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

func TestHistogramBounds(t *testing.T) {
	for _, c := range []struct {
		d      time.Duration
		bucket int
	}{
		{-time.Second, 0}, {0, 0}, {1, 0}, {100 * time.Microsecond, 0}, {100*time.Microsecond + 1, 1}, {200 * time.Microsecond, 1},
		{200*time.Microsecond + 1, 2}, {52428800 * time.Microsecond, bounds - 1}, {52428800*time.Microsecond + 1, bounds},
		{1<<63 - 1, bounds},
	} {
		var h Histogram
		h.Observe(c.d)
		got := h.Counts()
		if got.Buckets[c.bucket] != 1 || got.Count != 1 || got.Sum != max(c.d, 0) {
			t.Errorf("%v: want bucket %d, got %+v", c.d, c.bucket, got)
		}
		if bound, ok := Bound(c.bucket); ok && c.d > bound {
			t.Errorf("%v lies above its bound %v", c.d, bound)
		}
	}
}

// TestCodes counts from many goroutines more codes than fit: none is lost.
func TestCodes(t *testing.T) {
	var c Codes
	var group sync.WaitGroup
	const each, kinds = 50, maxCodes + 8
	for range 4 {
		group.Go(func() {
			for range each {
				for k := range kinds {
					c.Add(fmt.Appendf(nil, "%05d", k))
				}
				c.Add([]byte("no code"))
			}
		})
	}
	group.Wait()
	var sum, others uint64
	codes := map[string]uint64{}
	c.Each(func(code string, n uint64) {
		sum += n
		if code == "" {
			others = n
		} else {
			codes[code] += n
		}
	})
	if want := uint64(4 * each * (kinds + 1)); sum != want {
		t.Errorf("counted %d errors of %d", sum, want)
	}
	if want := uint64(4 * each * (kinds - maxCodes + 1)); others != want || len(codes) != maxCodes {
		t.Errorf("%d others, want %d; %d codes", others, want, len(codes))
	}
	var none *Codes
	none.Add([]byte("12345"))
}

// metered gives the rig's servers one meter.
func metered(r *rig) *Meter {
	m := new(Meter)
	for _, role := range []replication.Role{replication.RolePrimary, replication.RoleStandby} {
		f := r.newServer(role, "a")
		if role == replication.RoleStandby {
			f.Node = "s"
		}
		f.Meter = m
		r.idle = append(r.idle, f)
	}
	return m
}

func TestMeter(t *testing.T) {
	r := newRig(t)
	m := metered(r)
	r.query("begin")
	r.now = r.now.Add(3 * time.Millisecond)
	r.query("update t set a = 1")
	r.now = r.now.Add(5 * time.Millisecond)
	r.query("commit")
	r.query("select 1")
	turns, transactions, waits := m.Turn.Counts(), m.Transaction.Counts(), m.Wait.Counts()
	if turns.Count != 4 || transactions.Count != 2 || waits.Count != 2 {
		t.Errorf("turns %d, transactions %d, waits %d; want 4, 2, 2", turns.Count, transactions.Count, waits.Count)
	}
	if transactions.Sum != 8*time.Millisecond {
		t.Errorf("transactions took %v, want 8ms", transactions.Sum)
	}
}
