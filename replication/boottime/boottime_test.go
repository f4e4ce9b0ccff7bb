package boottime

import "testing"

func TestNowDoesNotGoBack(t *testing.T) {
	before := Now()
	if before <= 0 {
		t.Fatalf("got %d", before)
	}
	for range 1000 {
		now := Now()
		if now.Before(before) {
			t.Fatalf("went back from %d to %d", before, now)
		}
		before = now
	}
}
