package loop

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/walgate/walgate/replication"
)

// shy is a listener that shows its descriptor once.
type shy struct {
	*net.TCPListener
	shown bool
}

var errShy = errors.New("not again")

func (l *shy) SyscallConn() (syscall.RawConn, error) {
	if l.shown {
		return nil, errShy
	}
	l.shown = true
	return l.TCPListener.SyscallConn()
}

// A listener that can't be shared by all loops is left alone by all: once it is closed nobody listens.
func TestServeNeedsAllLoops(t *testing.T) {
	d := &Driver{cfg: Config{Now: func() replication.Instant { return 1 }}}
	for range 2 {
		l, err := newLoop(d)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		d.loops = append(d.loops, l)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Serve(t.Context(), context.Background(), &shy{TCPListener: tcp}, nil); !errors.Is(err, errShy) {
		t.Errorf("Serve: %v, want %v", err, errShy)
	}
	_ = tcp.Close()
	if conn, err := net.Dial("tcp", tcp.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("a descriptor of the listener was left open")
	}
}
