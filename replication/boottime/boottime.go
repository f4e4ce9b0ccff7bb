// Package boottime reads CLOCK_BOOTTIME, the clock on which leases and deadlines are counted. It is the one place
// where replication.Instant values come from outside tests.
package boottime

import (
	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/replication"
)

// Now returns the time since boot, suspend included (clock_gettime(2), CLOCK_BOOTTIME).
func Now() replication.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Invariant: CLOCK_BOOTTIME exists since Linux 2.6.39; no lease can be kept without it.
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error())
	}
	return replication.Instant(ts.Nano())
}
