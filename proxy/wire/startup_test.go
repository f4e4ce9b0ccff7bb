package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/jackc/pgproto3/v2"
)

// FuzzStartup: a startup packet is cut alike however it arrives, what is read of it makes the same packet again, and an
// independent codec reads no other parameters.
func FuzzStartup(f *testing.F) {
	f.Add(AppendStartup(nil, Protocol30, "user", "u", "database", "d", "options", "-c a=b"))
	f.Add(AppendStartup(nil, Protocol32+7, "user", "u", "_pq_.x", ""))
	f.Add([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f})
	f.Add([]byte{0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 1, 2, 3, 4})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		packet, n, err := CutStartup(stream)
		for i := range min(len(stream), MaxStartup+1) {
			part, m, partErr := CutStartup(stream[:i])
			if (i >= 4) && (partErr == nil) != (err == nil) || m != 0 && (i < n || m != n || !bytes.Equal(part, packet)) {
				t.Fatalf("of %d bytes: %d, %v; of all: %d, %v", i, m, partErr, n, err)
			}
		}
		if err != nil || n == 0 {
			return
		}
		if n != len(packet)+4 || n != int(binary.BigEndian.Uint32(stream)) {
			t.Fatalf("%d bytes of a packet of %d were used", n, len(packet)+4)
		}
		switch kind, code := ParseStartup(packet); kind {
		case StartupCancel:
			if id, secret, err := ParseCancel(packet); err == nil &&
				!bytes.Equal(append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, code), id), secret...), packet) {
				t.Fatal("CancelRequest does not survive")
			}
		case StartupMessage:
			checkStartupMessage(t, stream[:n], packet, code)
		}
	})
}

func checkStartupMessage(t *testing.T, whole, packet []byte, code uint32) {
	var pairs []string
	last := map[string]string{}
	err := StartupParameters(packet, func(name, value []byte) bool {
		pairs = append(pairs, string(name), string(value))
		last[string(name)] = string(value)
		return true
	})
	if err != nil {
		return
	}
	if again := AppendStartup(nil, code, pairs...); !bytes.Equal(again, whole) {
		t.Fatalf("StartupMessage does not survive: %q, %q", again, whole)
	}
	var other pgproto3.StartupMessage
	if code != Protocol30 || len(pairs) == 0 || other.Decode(packet) != nil {
		return // the other codec reads less
	}
	if len(other.Parameters) != len(last) {
		t.Fatalf("read %q, the other codec %q", last, other.Parameters)
	}
	for name, value := range last {
		if other.Parameters[name] != value {
			t.Fatalf("%s is %q, by the other codec %q", name, value, other.Parameters[name])
		}
	}
}

// FuzzFragments: the pieces that a stream is cut into make the same messages however the stream arrives, and the lengths
// that one reading refuses are refused by all.
func FuzzFragments(f *testing.F) {
	f.Add(append(AppendQuery(nil, "select 1"), AppendEmpty(nil, 'S')...), uint8(3), true)
	f.Add(AppendQuery(nil, string(bytes.Repeat([]byte("x"), 300))), uint8(70), true)
	f.Add([]byte{'D', 0, 0, 0, 6, 0, 0, 'Z', 0, 0, 0, 5, 'I'}, uint8(1), false)
	f.Add([]byte{'Q', 0xff, 0xff, 0xff, 0xff}, uint8(2), true)
	f.Fuzz(func(t *testing.T, stream []byte, step uint8, frontend bool) {
		want, wantErr := messages(t, stream, len(stream)+1, frontend)
		got, err := messages(t, stream, int(step)+1, frontend)
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("in steps of %d: %q, %v; at once: %q, %v", int(step)+1, got, err, want, wantErr)
		}
	})
}

// messages cuts a stream that arrives in steps into a buffer of 64 bytes or more, and returns what it is made of: for each
// message that has ended its type, its length and its body.
func messages(t *testing.T, stream []byte, step int, frontend bool) (whole []byte, err error) {
	c := Cutter{Frontend: frontend}
	var buf, message []byte
	capacity := max(64, step)
	for in := stream; ; {
		n := min(step, len(in), capacity-len(buf))
		buf, in = append(buf, in[:n]...), in[n:]
		used := 0
		for {
			p, n, err := c.Cut(buf[used:], used == 0 && len(buf) == capacity)
			if err != nil {
				return whole, err
			}
			if n == 0 {
				break
			}
			message = append(message, p.Bytes...)
			if p.Last {
				if int64(len(message)) != HeaderLen+p.Length && p.First {
					t.Fatalf("a message of %d bytes has %d", p.Length, len(message)-HeaderLen)
				}
				whole, message = append(whole, message...), nil
			}
			used += n
		}
		buf = append(buf[:0], buf[used:]...)
		if len(in) == 0 && (n == 0 || len(buf) < capacity) {
			return whole, nil
		}
		if n == 0 && used == 0 {
			t.Fatalf("stuck with %d bytes", len(buf))
		}
	}
}
