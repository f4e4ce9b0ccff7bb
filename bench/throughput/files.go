package throughput

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// allowFiles raises the limit of open files for this process and those that it starts, as far as it goes, and tells if it
// does not go far enough for so many clients. Setting it also keeps package os from giving children the old limit.
func allowFiles(clients int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	const besides = 500 // for everything that is no client
	if need := uint64(clients + besides); limit.Max < need {
		return fmt.Errorf("%d clients need %d open files, the limit of this process is %d (ulimit -Hn)", clients, need, limit.Max)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
