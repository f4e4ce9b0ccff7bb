package guard

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/replication"
)

// timer fires at absolute times of CLOCK_BOOTTIME, which goes on while the machine sleeps (timerfd_create(2)).
type timer struct {
	file *os.File
	fire chan struct{} // never closed; holds one
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create timer: %w", err)
	}
	return &timer{file: os.NewFile(uintptr(fd), "timer"), fire: make(chan struct{}, 1)}, nil
}

// set arms the timer; the zero Instant stops it. A time that has passed fires at once.
func (t *timer) set(at replication.Instant) error {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	value := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &value, nil)
	}); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	if set != nil {
		return fmt.Errorf("set timer: %w", set)
	}
	return nil
}

// run ends when the file is closed.
func (t *timer) run() {
	var expirations [8]byte
	for {
		if _, err := t.file.Read(expirations[:]); err != nil {
			return
		}
		select {
		case t.fire <- struct{}{}:
		default:
		}
	}
}
