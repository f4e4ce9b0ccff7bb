package replication

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLSN(t *testing.T) {
	for text, want := range map[string]LSN{"0/0": 0, "0/3000148": 0x3000148, "1/0": 1 << 32, "FFFFFFFF/ffffffff": math.MaxUint64} {
		got, err := ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("ParseLSN(%q): got %v, %v, want %v", text, got, err, want)
		}
		var back LSN
		written, _ := got.MarshalText()
		if err := back.UnmarshalText(written); err != nil || back != want {
			t.Errorf("%q there and back: got %v, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "0", "/", "0/", "/0", "x/0", "0/x", "100000000/0", "0/100000000", "-1/0", "0/0/0"} {
		if got, err := ParseLSN(text); !errors.Is(err, ErrLSN) {
			t.Errorf("ParseLSN(%q): got %v, %v, want ErrLSN", text, got, err)
		}
	}
	if got := LSN(0xABC00000DEF).String(); got != "ABC/DEF" {
		t.Errorf("String: got %s", got)
	}
	if LSN(5).BytesPast(3) != 2 || LSN(3).BytesPast(5) != 0 || LSN(3).BytesPast(3) != 0 {
		t.Error("BytesPast is wrong")
	}
}

func TestParseHistory(t *testing.T) {
	got, err := ParseHistory([]byte("# comment\n1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\n"))
	want := History{{1, 0x3000148, "no recovery target specified"}, {2, 0x5000000, ""}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	if end, ok := got.EndOf(2); !ok || end != 0x5000000 {
		t.Errorf("EndOf(2): %v, %v", end, ok)
	}
	if _, ok := got.EndOf(3); ok {
		t.Error("EndOf(3): an ancestor")
	}
	for _, bad := range []string{"1", "x\t0/1", "0\t0/1", "1\tx", "2\t0/1\n1\t0/2", "1\t0/1\n1\t0/2"} {
		if h, err := ParseHistory([]byte(bad)); !errors.Is(err, ErrHistory) {
			t.Errorf("%q: got %v, %v, want ErrHistory", bad, h, err)
		}
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add([]byte("1\t0/3000148\tno recovery target specified\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		history, err := ParseHistory(content)
		for i := 1; err == nil && i < len(history); i++ {
			if history[i].Timeline <= history[i-1].Timeline {
				t.Fatalf("timelines do not rise: %v", history)
			}
		}
	})
}

func TestGate(t *testing.T) {
	var g Gate
	if g.Allows(0, 0) || g.Allows(1, 0) {
		t.Error("the zero gate allows something")
	}
	g.Set(Grant{Epoch: 2, Deadline: 100})
	cases := []struct {
		epoch Epoch
		now   Instant
		want  bool
	}{{2, 99, true}, {2, 100, false}, {2, 101, false}, {1, 50, false}, {3, 50, false}, {0, 50, false}}
	for _, c := range cases {
		if got := g.Allows(c.epoch, c.now); got != c.want {
			t.Errorf("epoch %d at %d: got %v", c.epoch, c.now, got)
		}
	}
	g.Set(Grant{Deadline: 100})
	if g.Allows(0, 50) {
		t.Error("epoch 0 is allowed")
	}
}

func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f Feed[int]
		if f.Load() != 0 {
			t.Error("the zero feed holds something")
		}
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				if got, err := f.Wait(t.Context(), func(n int) bool { return n >= 3 }); err != nil || got != 3 {
					t.Errorf("Wait: got %d, %v", got, err)
				}
			})
		}
		for n := 1; n <= 3; n++ {
			synctest.Wait()
			f.Publish(n)
		}
		readers.Wait()

		gone := errors.New("gone")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, gone)
		defer cancel()
		if got, err := f.Wait(ctx, func(int) bool { return false }); !errors.Is(err, gone) || got != 3 {
			t.Errorf("Wait that ends: got %d, %v", got, err)
		}
		value, changed := f.Changed()
		f.Publish(4)
		if <-changed; value != 3 || f.Load() != 4 {
			t.Errorf("Changed: got %d, then %d", value, f.Load())
		}
	})
}

func TestView(t *testing.T) {
	v := View{Primary: "a", Open: true, Members: []Member{{Name: "a"}, {Name: "b", Port: 5}}}
	if !v.Writable() {
		t.Error("not writable")
	}
	for name, spoil := range map[string]func(*View){
		"no primary": func(v *View) { v.Primary = "" }, "not open": func(v *View) { v.Open = false },
		"draining": func(v *View) { v.Handoff.Draining = true }} {
		spoiled := v
		if spoil(&spoiled); spoiled.Writable() {
			t.Errorf("%s: writable", name)
		}
	}
	if m, ok := v.Member("b"); !ok || m.Port != 5 {
		t.Errorf("Member(b): %+v, %v", m, ok)
	}
	if _, ok := v.Member("c"); ok {
		t.Error("Member(c) is there")
	}
}

func TestFate(t *testing.T) {
	v := View{Epoch: 5, Open: true, Chain: []Branch{{Epoch: 2, Timeline: 2, Fork: 100}, {Epoch: 4, Timeline: 4, Fork: 300}, {Epoch: 5, Timeline: 5, Fork: 400}}}
	cases := []struct {
		name     string
		view     View
		epoch    Epoch
		position LSN
		want     Fate
	}{
		{"its own epoch", v, 5, 9999, FateSurvived},
		{"a later epoch", v, 6, 1, FateUnknown},
		{"no epoch", v, 0, 1, FateUnknown},
		{"at the fork", v, 4, 400, FateSurvived},
		{"past the fork", v, 4, 401, FateLost},
		{"past an earlier fork", v, 2, 350, FateLost},
		{"before both", v, 2, 300, FateSurvived},
		{"on a branch that led nowhere", v, 3, 200, FateLost},
		{"older than the chain", v, 1, 50, FateUnknown},
		{"older than the chain, and past a fork", v, 1, 101, FateLost},
		{"the first epoch writes on initdb's timeline", View{Epoch: 2, Open: true, Chain: []Branch{{Timeline: 1}, {Epoch: 2, Timeline: 2, Fork: 100}}}, 1, 100, FateSurvived},
		{"not open", View{Epoch: 5, Chain: v.Chain}, 4, 1, FateUnknown},
		{"without a chain, before the fork", View{Epoch: 5, Open: true, ForkLSN: 10}, 4, 10, FateSurvived},
		{"without a chain, past the fork", View{Epoch: 5, Open: true, ForkLSN: 10}, 4, 11, FateLost},
		{"without a chain, two epochs", View{Epoch: 5, Open: true, ForkLSN: 10}, 3, 1, FateUnknown},
	}
	for _, c := range cases {
		if got := c.view.Fate(c.epoch, c.position); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// FuzzParseLSN: a position that is read is written as it was, but for leading zeros and the case of its digits.
func FuzzParseLSN(f *testing.F) {
	for _, seed := range []string{"0/3000148", "FFFFFFFF/FFFFFFFF", "00000001/a", "1/", "/1", "+1/1", "100000000/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lsn, err := ParseLSN(text)
		if err != nil {
			return
		}
		if again, err := ParseLSN(lsn.String()); err != nil || again != lsn {
			t.Fatalf("%q: %s is read as %s, %v", text, lsn, again, err)
		}
		high, low, ok := strings.Cut(text, "/")
		trim := func(digits string) string { return strings.TrimLeft(digits, "0") }
		if !ok || !strings.EqualFold(trim(high), trim(fmt.Sprintf("%X", uint64(lsn)>>32))) ||
			!strings.EqualFold(trim(low), trim(fmt.Sprintf("%X", uint32(lsn)))) {
			t.Fatalf("%q is read as %s", text, lsn)
		}
	})
}
