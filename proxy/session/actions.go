package session

import (
	"unsafe"

	"github.com/walgate/walgate/replication"
)

// output is what is to be written to one side: own, and after it run, a run of bytes borrowed from the driver's read
// buffer. As long as frames are passed on unchanged, nothing is copied.
type output struct {
	own []byte
	run []byte
}

// Output returns the bytes to write to side, in order. They are valid until Reset, or until the driver moves or reuses
// the read buffer from which it made the events, whichever comes first: a driver that can't write them at once copies
// the rest.
func (a *Actions) Output(side Side) []byte {
	o := &a.output[side]
	if len(o.own) == 0 {
		return o.run
	}
	o.flatten()
	return o.own
}

// Control reports whether anything but output must be carried out before the next Handle.
func (a *Actions) Control() bool { return a.control }

// maxKept bounds the memory that an Actions keeps between uses.
const maxKept = 256 << 10

// Reset forgets everything; memory is kept for reuse.
func (a *Actions) Reset() {
	for side := range a.output {
		o := &a.output[side]
		o.run = nil
		if cap(o.own) > maxKept {
			o.own = nil
		}
		o.own = o.own[:0]
	}
	*a = Actions{output: a.output, spare: a.spare, works: a.works}
}

// Bounds of what is kept for reuse: as much as the sessions of a busy loop have in hand at a time, a few hundred kB.
const (
	maxSpare     = 64
	maxSpareSize = 8 << 10
	maxWorks     = 256
)

// take returns an empty buffer.
func (a *Actions) take() []byte {
	n := len(a.spare)
	if n == 0 {
		return make([]byte, 0, 1024)
	}
	b := a.spare[n-1]
	a.spare[n-1] = nil
	a.spare = a.spare[:n-1]
	return b
}

// give takes a buffer back. Nothing of it may have been passed on as borrowed.
func (a *Actions) give(b []byte) {
	if cap(b) > 0 && cap(b) <= maxSpareSize && len(a.spare) < maxSpare {
		a.spare = append(a.spare, b[:0])
	}
}

// takeWork returns an empty work.
func (a *Actions) takeWork() *work {
	n := len(a.works)
	if n == 0 {
		return new(work)
	}
	w := a.works[n-1]
	a.works[n-1] = nil
	a.works = a.works[:n-1]
	return w
}

// giveWork takes a work back.
func (a *Actions) giveWork(w *work) {
	if len(a.works) < maxWorks {
		w.reset()
		a.works = append(a.works, w)
	}
}

// own returns the buffer of side to append to; the result must be stored with put.
func (a *Actions) own(side Side) []byte {
	o := &a.output[side]
	o.flatten()
	return o.own
}

func (a *Actions) put(side Side, b []byte) { a.output[side].own = b }

// pass writes borrowed bytes to side.
func (a *Actions) pass(side Side, b []byte) {
	if len(b) == 0 {
		return
	}
	o := &a.output[side]
	n := len(o.run)
	if n == 0 {
		o.run = b
		return
	}
	if cap(o.run)-n >= len(b) && &o.run[:n+1][n] == unsafe.SliceData(b) {
		o.run = o.run[:n+len(b)]
		return
	}
	o.flatten()
	o.run = b
}

// flatten copies the borrowed run behind the own bytes.
func (o *output) flatten() {
	if len(o.run) > 0 {
		o.own = append(o.own, o.run...)
		o.run = nil
	}
}

func (a *Actions) need(n *Need) { a.Need, a.control = n, true }

func (a *Actions) arm(at replication.Instant) { a.Arm, a.ArmAt, a.control = true, at, true }

func (a *Actions) detach(d Detach, reason string) { a.Detach, a.Reason, a.control = d, reason, true }

func (a *Actions) read(side Side, change ReadChange) { a.Read[side], a.control = change, true }

func (a *Actions) cancelServer() { a.CancelServer, a.control = true, true }

func (a *Actions) close() { a.Close, a.control = true, true }
