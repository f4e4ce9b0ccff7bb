package wire_test

import (
	"testing"

	"github.com/walgate/walgate/proxy/wire"
)

// message is one of the given type, with a body of zeroes.
func message(typ byte, body int) []byte {
	m := make([]byte, wire.HeaderLen+body)
	length := body + 4
	m[0], m[1], m[2], m[3], m[4] = typ, byte(length>>24), byte(length>>16), byte(length>>8), byte(length)
	return m
}

func repeat(n int, messages ...[]byte) (all []byte) {
	for range n {
		for _, m := range messages {
			all = append(all, m...)
		}
	}
	return all
}

// conversations are what a read of a socket brings.
var conversations = []struct {
	name   string
	buffer []byte
}{
	{"query", message('Q', 20)},
	{"answer", repeat(1, message('T', 30), message('D', 12), message('C', 9), message('Z', 1))},
	{"prepared", repeat(1, message('B', 20), message('E', 5), message('S', 0))},
	{"rows", repeat(820, message('D', 76))[:64<<10-4]},
	{"stream", message('d', 64<<10)[:64<<10]}, // of a body that is longer than the buffer
}

// cutAll cuts a full buffer to its end, or to a piece that is not whole.
func cutAll(c *wire.Cutter, buffer []byte) (pieces int, err error) {
	*c = wire.Cutter{}
	for len(buffer) > 0 {
		_, n, err := c.Cut(buffer, pieces == 0)
		if err != nil || n == 0 {
			return pieces, err
		}
		pieces, buffer = pieces+1, buffer[n:]
	}
	return pieces, nil
}

func BenchmarkCut(b *testing.B) {
	for _, tt := range conversations {
		b.Run(tt.name, func(b *testing.B) {
			b.SetBytes(int64(len(tt.buffer)))
			b.ReportAllocs()
			var c wire.Cutter
			for b.Loop() {
				if n, err := cutAll(&c, tt.buffer); n == 0 || err != nil {
					b.Fatalf("%d pieces, %v", n, err)
				}
			}
		})
	}
}

func BenchmarkLedger(b *testing.B) {
	b.ReportAllocs()
	var l wire.Ledger[int]
	for b.Loop() {
		l.Push(wire.Owed[int]{Kind: wire.OwedQuery})
		for _, typ := range []byte("TDCZ") {
			if fits, _ := l.Accept(typ); !fits {
				b.Fatalf("%c does not fit", typ)
			}
		}
		l.Pop()
	}
}

// Cutting allocates nothing, whatever comes.
func TestCutDoesNotAllocate(t *testing.T) {
	for _, tt := range conversations {
		var c wire.Cutter
		if n := testing.AllocsPerRun(100, func() { _, _ = cutAll(&c, tt.buffer) }); n != 0 {
			t.Errorf("%s: got %v allocations, want none", tt.name, n)
		}
	}
}
