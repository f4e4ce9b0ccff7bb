package loop

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxRawWait bounds how long a wait may keep the runtime's processor: what wants to stop the world waits for as long.
const maxRawWait = 5 * time.Millisecond

// poller is one epoll descriptor with an eventfd that ends its wait.
//
// A wait comes in two kinds. The raw one is a plain system call of which the Go runtime knows nothing, so that a busy
// loop costs neither a hand-over of its processor nor a wake-up of sysmon. It must be short and must not be repeated at
// once when it was in vain: the runtime can't stop the world meanwhile (its signal ends the call with EINTR, and only
// what follows is a point at which the goroutine can be stopped). After one in vain the goroutine yields and makes an
// ordinary wait, in which it costs nothing at all.
type poller struct {
	fd, wakeFd int
	events     [128]unix.EpollEvent
	idle       bool // the last wait was in vain
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(fd) // the first error is the one that tells
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	// Edge-triggered: it is never read, each write is an event.
	err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(wake)})
	if err != nil {
		_, _ = unix.Close(wake), unix.Close(fd) // as above
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	return &poller{fd: fd, wakeFd: wake}, nil
}

// wake ends a wait that is under way or comes next. Any goroutine may call it.
func (p *poller) wake() {
	one := [8]byte{1}
	for {
		// EAGAIN means that 2^64-2 wake-ups have not been noticed.
		if _, err := unix.Write(p.wakeFd, one[:]); err != unix.EINTR {
			return
		}
	}
}

// wait returns how many of p.events are ready, 0 when none became so within limit, or for no reason.
func (p *poller) wait(limit time.Duration) int {
	if !p.idle {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events)),
			uintptr(len(p.events)), uintptr(milliseconds(min(limit, maxRawWait))), 0, 0)
		if errno == 0 && n > 0 {
			return int(n)
		}
		p.idle = true
		if limit <= maxRawWait && errno == 0 {
			runtime.Gosched()
			return 0
		}
	}
	runtime.Gosched()
	n, err := unix.EpollWait(p.fd, p.events[:], milliseconds(limit))
	if err != nil { // EINTR
		n = 0
	}
	p.idle = n == 0
	return n
}

// milliseconds rounds up: a wait that ends too early would be followed by others.
func milliseconds(d time.Duration) int {
	return int((d + time.Millisecond - 1) / time.Millisecond)
}

func (p *poller) close() {
	_, _ = unix.Close(p.wakeFd), unix.Close(p.fd) // nothing can be done about an error
}
