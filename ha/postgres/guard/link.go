package guard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// link is one agent's connection, on the guard's side.
type link struct {
	conn *net.UnixConn
	out  chan response // closed by the loop when the link is dropped
}

// outQueue bounds the answers that wait for an agent that does not read.
const outQueue = 64

// accept ends when the listener is closed.
func (s *server) accept(listener *net.UnixListener, helpers *sync.WaitGroup) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors, say: the loop still holds the deadline
			continue
		}
		if err := checkPeer(conn); err != nil {
			s.log.Warn("refused a connection", "error", err)
			_ = conn.Close()
			continue
		}
		l := &link{conn: conn, out: make(chan response, outQueue)}
		if !s.tell(message{link: l, opened: true}) {
			_ = conn.Close()
			return
		}
		helpers.Go(func() { s.read(l) })
		helpers.Go(l.write)
	}
}

// checkPeer lets in processes of the same user, and of root (SO_PEERCRED).
func checkPeer(conn *net.UnixConn) error {
	credentials, err := peer(conn)
	if err != nil {
		return err
	}
	if credentials.Uid != 0 && int(credentials.Uid) != os.Geteuid() {
		return fmt.Errorf("peer has user id %d: %w", credentials.Uid, unix.EPERM)
	}
	return nil
}

func peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who the peer is: %w", err)
	}
	var credentials *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		credentials, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("ask who the peer is: %w", err)
	}
	if asked != nil {
		return nil, fmt.Errorf("ask who the peer is: %w", asked)
	}
	return credentials, nil
}

// tell hands a message to the loop; false when the loop has ended.
func (s *server) tell(m message) bool {
	select {
	case s.in <- m:
		return true
	case <-s.done:
		return false
	}
}

// read ends when the connection does.
func (s *server) read(l *link) {
	defer s.tell(message{link: l, closed: true})
	scanner := bufio.NewScanner(l.conn)
	scanner.Buffer(nil, maxLine)
	for scanner.Scan() {
		var r request
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			return
		}
		if !s.tell(message{link: l, request: &r}) {
			return
		}
	}
}

// write ends when the loop closes the channel.
func (l *link) write() {
	encoder := json.NewEncoder(l.conn)
	broken := false
	for r := range l.out {
		if broken {
			continue
		}
		if err := l.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
			broken = true
			continue
		}
		if err := encoder.Encode(r); err != nil {
			broken = true
			_ = l.conn.Close() // the reader ends and reports it
		}
	}
}
