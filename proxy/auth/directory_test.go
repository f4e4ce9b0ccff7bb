package auth

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walgate/walgate/replication"
)

type fakeLookup struct {
	text  atomic.Pointer[string]
	asked atomic.Int32
	err   atomic.Pointer[error]
	delay time.Duration
}

func (l *fakeLookup) Credential(ctx context.Context, user string) (Credential, error) {
	l.asked.Add(1)
	select {
	case <-time.After(l.delay):
	case <-ctx.Done():
		return Credential{}, ctx.Err()
	}
	if err := l.err.Load(); err != nil {
		return Credential{}, *err
	}
	if text := l.text.Load(); text != nil && user != "nobody" {
		return ParseCredential(*text), nil
	}
	return Credential{}, nil
}

func testDirectory(t *testing.T, lookup Lookup) *Directory {
	t.Helper()
	start := time.Now()
	d, err := NewDirectory(Config{
		Refresh: time.Minute, Patience: 100 * time.Millisecond, LookupTimeout: time.Second, MaxEntries: 3, MaxConcurrent: 2,
		MockSecret: make([]byte, 16), Iterations: 4096,
	}, []Lookup{lookup}, func() replication.Instant { return replication.Instant(1 + time.Since(start)) })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &fakeLookup{delay: time.Millisecond}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		ctx := t.Context()
		known := func(user string, want bool) {
			t.Helper()
			e, err := d.Find(ctx, user)
			if err != nil || e.known != want {
				t.Fatalf("Find(%s) = %+v, %v; want known %v", user, e, err, want)
			}
		}
		asked := func(want int32) {
			t.Helper()
			if got := lookup.asked.Load(); got != want {
				t.Fatalf("asked %d times, want %d", got, want)
			}
		}
		known("user", true)
		known("user", true)
		asked(1)
		known("nobody", false)
		known("nobody", false)
		asked(2)
		time.Sleep(2 * time.Minute)
		down := errors.New("down")
		lookup.err.Store(&down)
		known("user", true) // old, but nobody can be asked
		asked(3)
		if _, err := d.Find(ctx, "other"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Find without cache or server: %v, want ErrUnavailable", err)
		}
		lookup.err.Store(nil)
		lookup.delay = time.Hour // a silent cluster
		known("user", true)
		if _, err := d.Find(ctx, "other"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Find with a silent server: %v, want ErrUnavailable", err)
		}
	})
}

// A refused password makes the next login ask again, but not at once; concurrent questions are one.
func TestDirectoryDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &fakeLookup{delay: time.Millisecond}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		if _, err := d.Find(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		d.Expire("user") // too soon: what was said just now holds
		if _, ok := d.Ready("user"); !ok {
			t.Fatal("a credential of this moment is not believed")
		}
		time.Sleep(time.Second)
		d.Expire("user")
		done := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := d.Find(t.Context(), "user")
				done <- err
			}()
		}
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if got := lookup.asked.Load(); got != 2 {
			t.Errorf("asked %d times, want 2", got)
		}
	})
}

// Guessed names do not push known roles out, and their salts are stable.
func TestDirectoryEvicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &fakeLookup{}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		for _, user := range []string{"a", "b"} {
			if _, err := d.Find(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		}
		lookup.text.Store(nil)
		for _, user := range []string{"guess1", "guess2", "guess3"} {
			e, err := d.Find(t.Context(), user)
			if err != nil || e.known {
				t.Fatal(e, err)
			}
		}
		for _, user := range []string{"a", "b"} {
			if e, err := d.Find(t.Context(), user); err != nil || !e.known {
				t.Errorf("%s was pushed out (%v)", user, err)
			}
		}
		if x, y := d.mock("guess1"), d.mock("guess1"); string(x.Salt) != string(y.Salt) {
			t.Error("salt of an unknown role changes")
		}
		if x, y := d.mock("guess1"), d.mock("guess2"); string(x.Salt) == string(y.Salt) {
			t.Error("unknown roles share a salt")
		}
	})
}

// An answer that was asked for before a login arrived is none for it, since the password may have changed in between.
func TestDirectoryAsksAfterArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, other := rfcVerifier(t).String(), MD5Hash("user", "new")
		lookup := &fakeLookup{delay: 10 * time.Millisecond}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		d.cfg.Refresh = time.Millisecond
		first := make(chan Account, 1)
		go func() {
			a, _ := d.Find(t.Context(), "user")
			first <- a
		}()
		time.Sleep(5 * time.Millisecond)
		second := make(chan Account, 1)
		go func() {
			a, _ := d.Find(t.Context(), "user")
			second <- a
		}()
		time.Sleep(6 * time.Millisecond) // the first question is answered
		if a := <-first; a.Kind != SCRAMCredential {
			t.Fatalf("first login: %+v", a)
		}
		lookup.text.Store(&other)
		if a := <-second; a.Kind != MD5Credential {
			t.Errorf("the second login was given an answer from before it arrived: %+v", a)
		}
	})
}

// Once roles have been changed no answer to an earlier question is good enough for a login that arrives then, also one that
// is still awaited. A login that has arrived before takes it.
func TestDirectoryForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, other := rfcVerifier(t).String(), MD5Hash("user", "new")
		lookup := &fakeLookup{delay: 10 * time.Millisecond}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		if _, err := d.Find(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		if _, ok := d.Ready("user"); !ok {
			t.Fatal("not cached")
		}
		d.ExpireAll()
		if _, ok := d.Ready("user"); ok {
			t.Error("believed after a change")
		}
		login := func() <-chan Account {
			found := make(chan Account, 1)
			go func() {
				a, _ := d.Find(t.Context(), "user")
				found <- a
			}()
			time.Sleep(5 * time.Millisecond)
			return found
		}
		before := login()
		d.ExpireAll()
		after := login()
		time.Sleep(time.Millisecond) // the question from before is answered
		lookup.text.Store(&other)
		if a := <-before; a.Kind != SCRAMCredential {
			t.Errorf("the login before the change: %+v", a)
		}
		if a := <-after; a.Kind != MD5Credential {
			t.Errorf("an answer from before the change: %+v", a)
		}
		if _, ok := d.Ready("user"); !ok || lookup.asked.Load() != 3 {
			t.Errorf("fresh %v after %d questions, want 3", ok, lookup.asked.Load())
		}
	})
}

// changing is a Lookup in whose questions roles are changed, as a script does that creates many.
type changing struct {
	fakeLookup
	directory *Directory
}

func (l *changing) Credential(ctx context.Context, user string) (Credential, error) {
	c, err := l.fakeLookup.Credential(ctx, user)
	l.directory.ExpireAll()
	<-time.After(time.Millisecond) // the clock goes on
	return c, err
}

// Logins end while roles are changed all the time, after one question each.
func TestDirectoryOfChangingRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &changing{fakeLookup: fakeLookup{delay: time.Millisecond}}
		lookup.text.Store(&text)
		lookup.directory = testDirectory(t, lookup)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for n := range int32(3) {
			if a, err := lookup.directory.Find(ctx, "user"); err != nil || !a.known {
				t.Fatalf("Find: %+v, %v", a, err)
			}
			if asked := lookup.asked.Load(); asked != n+1 {
				t.Fatalf("asked %d times for %d logins", asked, n+1)
			}
		}
	})
}

// What a login goes on with because nobody has answered is believed for a while, but not when roles have been changed
// since, nor when it was the login that had no time left.
func TestDirectoryAsksAgain(t *testing.T) {
	for name, test := range map[string]struct {
		limit          time.Duration // of the login
		changes, ready bool
	}{
		"nobody answers":        {time.Hour, false, true},
		"roles are changed":     {time.Hour, true, false},
		"the login ends before": {time.Millisecond, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				text := rfcVerifier(t).String()
				lookup := &fakeLookup{}
				lookup.text.Store(&text)
				d := testDirectory(t, lookup)
				if _, err := d.Find(t.Context(), "user"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				lookup.delay = time.Hour
				ctx, cancel := context.WithTimeout(t.Context(), test.limit)
				defer cancel()
				if a, err := d.Find(ctx, "user"); err != nil || !a.known {
					t.Fatalf("Find: %+v, %v", a, err)
				}
				time.Sleep(time.Millisecond)
				if test.changes {
					d.ExpireAll()
				}
				if _, ok := d.Ready("user"); ok != test.ready {
					t.Errorf("believed %v, want %v", ok, test.ready)
				}
				time.Sleep(time.Minute) // the question is given up
			})
		})
	}
}

// An answer that comes in the instant in which a login gives up waiting is not one that nobody has given.
func TestDirectoryAnswerInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &fakeLookup{}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		if _, err := d.Find(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		old, _, _ := d.cached("user", d.clock())
		if _, err := d.Find(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		d.later(&old)
		d.cfg.Refresh = time.Millisecond
		time.Sleep(2 * time.Millisecond)
		if _, ok := d.Ready("user"); ok {
			t.Error("a new credential is believed for longer than it may")
		}
	})
}

// While nobody answers, only the first login waits; the others go on with what is known.
func TestDirectoryOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &fakeLookup{}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		if _, err := d.Find(t.Context(), "user"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		lookup.delay = time.Hour
		start := time.Now()
		for range 5 {
			if a, err := d.Find(t.Context(), "user"); err != nil || !a.known {
				t.Fatalf("Find: %+v, %v", a, err)
			}
		}
		if took := time.Since(start); took != d.cfg.Patience {
			t.Errorf("five logins waited %v, want the patience of one: %v", took, d.cfg.Patience)
		}
		time.Sleep(time.Minute) // the question is given up
	})
}
