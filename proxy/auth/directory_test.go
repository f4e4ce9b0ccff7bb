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

func (l *fakeLookup) Verifier(ctx context.Context, user string) (string, error) {
	l.asked.Add(1)
	select {
	case <-time.After(l.delay):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err := l.err.Load(); err != nil {
		return "", *err
	}
	if text := l.text.Load(); text != nil && user != "nobody" {
		return *text, nil
	}
	return "", nil
}

func testDirectory(t *testing.T, lookup Lookup) *Directory {
	t.Helper()
	start := time.Now()
	d, err := NewDirectory(Config{
		Refresh: time.Minute, LookupTimeout: time.Second, MaxEntries: 3, MaxConcurrent: 2,
		MockSecret: make([]byte, 16), Iterations: 4096,
	}, lookup, func() replication.Instant { return replication.Instant(1 + time.Since(start)) })
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
			e, err := d.Begin(ctx, user)
			if err != nil || e.known != want {
				t.Fatalf("Begin(%s) = %+v, %v; want known %v", user, e, err, want)
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
		if _, err := d.Begin(ctx, "other"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Begin without cache or server: %v, want ErrUnavailable", err)
		}
		lookup.err.Store(nil)
		lookup.delay = time.Hour // a silent cluster
		known("user", true)
		if _, err := d.Begin(ctx, "other"); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("Begin with a silent server: %v, want ErrUnavailable", err)
		}
	})
}

// A denied proof makes the next login ask again; concurrent questions are one.
func TestDirectoryDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := rfcVerifier(t).String()
		lookup := &fakeLookup{delay: time.Millisecond}
		lookup.text.Store(&text)
		d := testDirectory(t, lookup)
		e, err := d.Begin(t.Context(), "user")
		if err != nil {
			t.Fatal(err)
		}
		e.nonce = rfcServerNonce
		if _, err := e.First([]byte("n,,n=user,r=" + rfcClientNonce)); err != nil {
			t.Fatal(err)
		}
		e.known = false
		if _, _, err := d.Final("user", e, []byte(rfcClientFinal)); !errors.Is(err, ErrDenied) {
			t.Fatalf("Final: %v, want ErrDenied", err)
		}
		done := make(chan error, 10)
		for range 10 {
			go func() {
				_, err := d.Begin(t.Context(), "user")
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
			if _, err := d.Begin(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		}
		lookup.text.Store(nil)
		for _, user := range []string{"guess1", "guess2", "guess3"} {
			e, err := d.Begin(t.Context(), user)
			if err != nil || e.known {
				t.Fatal(e, err)
			}
		}
		for _, user := range []string{"a", "b"} {
			if e, err := d.Begin(t.Context(), user); err != nil || !e.known {
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
