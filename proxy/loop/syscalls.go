package loop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The descriptors of a loop never block, so reading and writing tells the Go runtime nothing of it: the call is as short
// as any function. len(b) must not be 0.

func readOnce(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

// writeOnce may raise SIGPIPE, which the Go runtime ignores for all but standard output and error.
func writeOnce(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}
