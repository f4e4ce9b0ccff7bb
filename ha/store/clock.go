package store

import (
	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/replication"
)

// BootTime reads CLOCK_BOOTTIME, the clock of leases and deadlines (clock_gettime(2)).
func BootTime() replication.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error()) // Linux has it since 2.6.39
	}
	return replication.Instant(ts.Nano())
}
