package loop

// buffer is bytes that could not be dealt with at once: of a read, until more of the message comes, or of a write, until
// the socket takes them. Who has none of either, which is nearly everybody, has no buffer.
type buffer struct{ bytes []byte }

// Bounds of what is kept for reuse.
const (
	maxSpare     = 16
	maxSpareSize = 16 << 10
)

// size is the number of bytes in it; b may be nil.
func (b *buffer) size() int {
	if b == nil {
		return 0
	}
	return len(b.bytes)
}

// keep returns a buffer with a copy of data; nil if that is empty.
func (l *loop) keep(data []byte) *buffer {
	if len(data) == 0 {
		return nil
	}
	var b *buffer
	if n := len(l.spare); n > 0 {
		b = l.spare[n-1]
		l.spare = l.spare[:n-1]
	} else {
		b = new(buffer)
	}
	b.bytes = append(b.bytes[:0], data...)
	return b
}

// recycle takes back a buffer of keep; b may be nil.
func (l *loop) recycle(b *buffer) {
	if b != nil && cap(b.bytes) <= maxSpareSize && len(l.spare) < maxSpare {
		l.spare = append(l.spare, b)
	}
}
