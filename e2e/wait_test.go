package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// The limits of waiting. They are generous: what they bound is a hang, not a speed. Speeds are logged.
const (
	startLimit    = 120 * time.Second // from nothing to every member streaming, on a busy machine with -race
	failoverLimit = 60 * time.Second  // from a fault to an open door
	healLimit     = 90 * time.Second  // until every member streams again
	verbLimit     = 120 * time.Second // one command line
	sqlLimit      = 45 * time.Second  // one statement; longer than proxy.hold_timeout
	lookAgain     = 50 * time.Millisecond
)

// await returns as soon as ok returns nil, and fails the test with its last error when limit has passed.
func await(t testing.TB, limit time.Duration, what string, ok func(ctx context.Context) error) {
	t.Helper()
	if err := awaitErr(t.Context(), limit, what, ok); err != nil {
		t.Fatal(err)
	}
}

func awaitErr(ctx context.Context, limit time.Duration, what string, ok func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	var last error
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, context.DeadlineExceeded) || last == nil {
			last = err // the end of the wait itself explains nothing
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", limit, what, last)
		}
	}
}
