package loop

import (
	"context"
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/proxy/preamble"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

const (
	maxRequests = 5        // what a stranger may ask before its StartupMessage: TLS, GSSAPI encryption
	maxEarly    = 16 << 10 // bytes that are read at a time before a login is complete
	tlsRecord   = 0x16     // the first byte of TLS; that of a startup packet is 0
)

// entrance is what a client needs until it has logged in.
type entrance struct {
	request      *session.AuthRequest
	conversation *login.Conversation
	// within bounds what must wait; it ends with the listener's logins.
	within func(left time.Duration) (context.Context, context.CancelFunc)
	asked  int  // startup packets read
	told   bool // a load balancer has told the client's address
}

// begun is 1 when the client has said who it wants to be: then its leaving is a failed login, not a port check.
func (e *entrance) begun() int {
	if e.request == nil {
		return 0
	}
	return 1
}

// enter reads and goes on with the login.
func (c *client) enter() {
	data, ok := c.read(c.loop.buffer[:maxEarly])
	if ok {
		c.proceed(data)
	}
}

// proceed goes on with the login as far as data goes, which is everything that has not been dealt with.
func (c *client) proceed(data []byte) {
	at := 0
	for n := 1; n > 0; {
		switch c.stage {
		case stagePreamble:
			n = c.readPreamble(data[at:])
		case stageStartup:
			n = c.readStartup(data[at:])
		case stagePassword:
			n = c.readPassword(data[at:])
		case stageSession:
			if at < len(data) {
				c.take(data[at:], false)
			}
			return
		case stageBlocked:
			n = 0
		default:
			return
		}
		at += n
	}
	if c.stage < stageSession && at < len(data) {
		if len(data)-at >= maxEarly { // no message of a login is as long
			c.left()
			return
		}
		c.rest = c.loop.keep(data[at:])
	}
}

// readPreamble takes the client's address from the header of a load balancer. It returns how many bytes it used.
func (c *client) readPreamble(data []byte) int {
	for used := 0; ; {
		h, more, err := preamble.Parse(data[:used])
		switch {
		case err != nil:
			c.loop.driver.log.Warn("no PROXY header from a load balancer", "client", c.remote.String(), "error", err)
			c.left()
			return 0
		case more == 0:
			if h.Source.IsValid() {
				c.remote = h.Source
			}
			c.login.told = true
			c.stage = stageStartup
			return used
		case used+more > len(data):
			return 0
		}
		used += more
	}
}

// readStartup takes one startup packet.
func (c *client) readStartup(data []byte) int {
	if len(data) == 0 {
		return 0
	}
	if data[0] == tlsRecord && c.login.asked == 0 && c.entry.Encryption() != Clear {
		c.pass(data)
		return 0
	}
	packet, n, err := wire.CutStartup(data)
	if n == 0 || err != nil {
		if err != nil {
			c.left()
		}
		return 0
	}
	if c.login.asked++; c.login.asked > maxRequests {
		c.left()
		return 0
	}
	kind, _ := wire.ParseStartup(packet)
	switch kind {
	case wire.StartupSSL, wire.StartupGSSENC:
		if kind == wire.StartupSSL && c.entry.Encryption() != Clear {
			c.pass(data)
			return 0
		}
		c.loop.send(&c.socket, []byte{'N'})
		return n
	case wire.StartupCancel:
		c.cancelRequest(packet)
		return 0
	case wire.StartupMessage:
	}
	c.startup(packet, data)
	return n
}

// cancelRequest carries out a CancelRequest: then the connection is closed, as its sender expects.
func (c *client) cancelRequest(packet []byte) {
	processID, secret, err := wire.ParseCancel(packet)
	if err != nil {
		c.left()
		return
	}
	secret = append([]byte(nil), secret...)
	l := c.loop
	c.block(func() func() {
		l.driver.door.Cancel(processID, secret)
		return c.finish
	})
}

// block runs do in a goroutine, and what it returns on the loop, unless the client has left by then.
func (c *client) block(do func() func()) {
	l := c.loop
	c.stage = stageBlocked
	l.want(&c.socket, c.events&^readable)
	l.driver.tasks.Go(func() { // do is bounded by the time for logins
		then := do()
		l.post(func() {
			if c.stage == stageBlocked {
				l.want(&c.socket, c.events|readable)
				then()
			}
		})
	})
}

// startup begins the session, unless another driver must serve it; data is what was read with the packet.
func (c *client) startup(packet, data []byte) {
	l := c.loop
	l.inner = session.Event{Kind: session.Startup, Bytes: packet}
	c.session.Handle(l.now, &l.inner, l.actions)
	if req := l.actions.Authenticate; req != nil && l.driver.door.Foreign(req) {
		l.actions.Reset() // the session and its words are forgotten: the other driver begins anew
		c.pass(data)
		return
	}
	c.settle()
	if c.stage != stageStartup || c.login.request == nil {
		return // refused; the session has said Close
	}
	req := c.login.request
	conversation, step := l.driver.door.Login(c.id, c.peer(), req)
	c.login.conversation = conversation
	c.step(step)
}

// peer tells what is known of the client from its connection.
func (c *client) peer() login.Peer {
	p := login.Peer{UID: -1, Target: c.entry.Session.Target, Address: c.remote, Unix: !c.remote.IsValid()}
	if p.Unix {
		if cred, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.UID = int(cred.Uid)
		}
	}
	return p
}

// step carries out one step of the login conversation.
func (c *client) step(step login.Step) {
	l := c.loop
	l.send(&c.socket, step.Send)
	switch {
	case c.broken:
		c.left()
	case step.Outcome != nil:
		c.admit(step.Outcome)
	case step.Block != nil:
		left, within := c.deadline.Sub(l.now), c.login.within
		c.block(func() func() {
			ctx, cancel := within(left)
			defer cancel()
			next := step.Block(ctx)
			return func() { c.resumeLogin(next) }
		})
	default:
		c.stage = stagePassword
	}
}

// resumeLogin goes on after something that had to wait.
func (c *client) resumeLogin(step login.Step) {
	c.step(step)
	if rest := c.rest; rest != nil && c.stage != stageEnded && c.stage != stageBlocked {
		c.rest = nil
		c.proceed(rest.bytes)
		c.loop.recycle(rest)
	}
}

// readPassword takes one password message.
func (c *client) readPassword(data []byte) int {
	if len(data) < wire.HeaderLen {
		return 0
	}
	length := int64(binary.BigEndian.Uint32(data[1:])) - 4
	if data[0] != 'p' || length < 0 || length > login.MaxAnswer {
		c.admit(login.Malformed())
		return 0
	}
	size := wire.HeaderLen + int(length)
	if len(data) < size {
		return 0
	}
	c.step(c.login.conversation.Answer(data[wire.HeaderLen:size]))
	return size
}

// admit tells the session how the login has ended.
func (c *client) admit(outcome *session.AuthOutcome) {
	l := c.loop
	if !outcome.OK {
		l.counters.loginFailures.Add(1)
		l.driver.hooks.Error([]byte(outcome.Failure.SQLSTATE))
	}
	c.stage, c.login = stageSession, nil
	l.timers.arm(c, 0)
	c.tell(session.Event{Kind: session.AuthResult, Auth: outcome})
}

// pass hands the connection, with what has been read of it, to another driver.
func (c *client) pass(read []byte) {
	l := c.loop
	early := Early{Read: append([]byte(nil), read...)}
	if c.deadline != 0 {
		early.Waited = l.driver.cfg.LoginTimeout - c.deadline.Sub(l.now)
	}
	l.forget(&c.socket, false)
	l.timers.arm(c, 0)
	delete(l.clients, c.id)
	fd := c.fd
	c.fd, c.stage = -1, stageEnded
	if c.login.told {
		early.Remote = c.remote
	}
	conn, err := netConn(fd, "client")
	if err != nil {
		l.driver.log.Error("client connection not passed on", "error", err)
		l.driver.hooks.Leave(c.id)
		return
	}
	c.entry.Pass(conn, c.id, early)
}
