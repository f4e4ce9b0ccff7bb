package takeover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// protocol is the version of the conversation. A process of another one is refused, whatever its binary's version is:
// raise it when the meaning of a message changes.
const protocol = 1

// kind says what a message means.
type kind string

const (
	hello    kind = "hello"    // who wants to take over
	offer    kind = "offer"    // the sockets
	refusal  kind = "refusal"  // why not; the conversation is over
	prepare  kind = "prepare"  // the new process will serve in a moment
	prepared kind = "prepared" // the old one is known by another name now
	serving  kind = "serving"  // the new process accepts
	yielded  kind = "yielded"  // the old one does not any more
	sibling  kind = "sibling"  // a connection to another process of the proxy
	cancel   kind = "cancel"   // a CancelRequest of a client that is not the sender's
)

// message is one packet. Which fields are set depends on its kind.
type message struct {
	Kind     kind     `json:"kind"`
	Protocol int      `json:"protocol,omitempty"` // hello, offer
	From     Identity `json:"from,omitzero"`      // hello, offer, sibling

	// Ours has an element for each socket of the offer; Siblings are connections that come behind them.
	Ours     []bool     `json:"ours,omitempty"`
	Siblings []Identity `json:"siblings,omitempty"`

	Why string `json:"why,omitempty"` // refusal

	ProcessID uint32 `json:"process_id,omitempty"` // cancel
	Secret    []byte `json:"secret,omitempty"`
}

// Identity names a process of a proxy.
type Identity struct {
	Cluster string `json:"cluster"`
	Version string `json:"version"` // of the binary
	PID     int    `json:"pid"`
}

// The bounds of a packet. The kernel passes at most 253 descriptors.
const (
	maxPacket      = 64 << 10
	maxDescriptors = 250
)

// conn is a connection of packets between two processes of a proxy.
type conn struct{ *net.UnixConn }

// send writes one packet with copies of the descriptors.
func (c conn) send(m message, descriptors ...int) error {
	packet, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", m.Kind, err)
	}
	if len(packet) > maxPacket || len(descriptors) > maxDescriptors {
		return fmt.Errorf("send %s: %d bytes with %d descriptors are too much", m.Kind, len(packet), len(descriptors))
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	if _, _, err := c.WriteMsgUnix(packet, rights, nil); err != nil {
		return fmt.Errorf("send %s: %w", m.Kind, err)
	}
	return nil
}

// receive reads one packet. The descriptors are the caller's.
func (c conn) receive() (m message, descriptors []int, err error) {
	packet, rights := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, rightsLen, flags, _, err := c.ReadMsgUnix(packet, rights) // closes descriptors on exec
	if err != nil {
		return m, nil, fmt.Errorf("receive: %w", err)
	}
	if descriptors, err = parseRights(rights[:rightsLen]); err != nil {
		return m, nil, err
	}
	switch {
	case n == 0 && rightsLen == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("receive: a packet is too large")
	default:
		err = json.Unmarshal(packet[:n], &m)
	}
	if err != nil {
		closeAll(descriptors)
		return m, nil, err
	}
	return m, descriptors, nil
}

func parseRights(rights []byte) (descriptors []int, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("read descriptors: %w", err)
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(descriptors)
			return nil, fmt.Errorf("read descriptors: %w", err)
		}
		descriptors = append(descriptors, some...)
	}
	return descriptors, nil
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd) // it is not used any more
	}
}

// peer is who is at the other end, as the kernel knows it; allowed are this process's user and root.
func (c conn) peer() (pid int, allowed bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false, fmt.Errorf("look at the peer: %w", err)
	}
	var credential *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		credential, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, asked); err != nil {
		return 0, false, fmt.Errorf("look at the peer: %w", err)
	}
	return int(credential.Pid), int(credential.Uid) == os.Geteuid() || credential.Uid == 0, nil
}

// connect makes a conn of a descriptor, which is closed.
func connect(fd int) (conn, error) {
	file := os.NewFile(uintptr(fd), "sibling")
	defer func() { _ = file.Close() }() // the connection has a duplicate
	c, err := net.FileConn(file)
	if err != nil {
		return conn{}, fmt.Errorf("make a connection: %w", err)
	}
	socket, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close() // it is not what was promised
		return conn{}, errors.New("make a connection: it is no unix socket")
	}
	return conn{socket}, nil
}

// duplicate copies the descriptor of a socket, so that its owner may close it meanwhile.
func duplicate(l net.Listener) (fd int, err error) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("pass %s on: it has no descriptor", l.Addr())
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("pass %s on: %w", l.Addr(), err)
	}
	var asked error
	err = raw.Control(func(own uintptr) { fd, asked = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, asked); err != nil {
		return 0, fmt.Errorf("pass %s on: %w", l.Addr(), err)
	}
	return fd, nil
}
