package sockets

import (
	"strconv"
	"testing"
)

// FuzzPassedOn: descriptors are taken only when they are meant for this process, and never more than is sensible.
func FuzzPassedOn(f *testing.F) {
	f.Add("42", "1")
	f.Add("42", "1001")
	f.Add("042", "2")
	f.Add("", "-1")
	f.Add("42", "0x3")
	f.Fuzz(func(t *testing.T, pid, count string) {
		const self = 42
		n, err := passedOn(pid, count, self)
		number, bad := strconv.Atoi(count)
		switch {
		case pid != strconv.Itoa(self) && (n != 0 || err != nil):
			t.Fatalf("of another process: %d, %v", n, err)
		case n < 0 || n > maxPassedOn || err != nil && n != 0:
			t.Fatalf("%d, %v", n, err)
		case pid == strconv.Itoa(self) && (err == nil) != (bad == nil && number >= 0 && number <= maxPassedOn), n != 0 && n != number:
			t.Fatalf("%q: %d, %v", count, n, err)
		}
	})
}
