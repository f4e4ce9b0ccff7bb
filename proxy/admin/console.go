package admin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// Config says who may use the console. All fields but the lists must be set.
type Config struct {
	Users       []string // may do everything
	StatsUsers  []string // may SHOW
	StatsPeriod time.Duration
	// Parameters are what the console's clients are told of it at login.
	Parameters []session.Parameter
	// WriteTimeout bounds one write to a client that does not read.
	WriteTimeout time.Duration
}

// Console serves the clients of the console. It is safe for concurrent use.
type Console struct {
	cfg   Config
	proxy Proxy
	log   *slog.Logger

	mu           sync.Mutex
	older, newer sample
}

// New returns a Console. Run must run for averages to be known.
func New(cfg Config, proxy Proxy, log *slog.Logger) (*Console, error) {
	if cfg.StatsPeriod <= 0 || cfg.WriteTimeout <= 0 {
		return nil, errors.New("admin: durations must be positive")
	}
	if proxy == nil || log == nil {
		return nil, errors.New("admin: a dependency is nil")
	}
	return &Console{cfg: cfg, proxy: proxy, log: log}, nil
}

// Refuse tells why the user may not use the console; nil lets it in.
func (c *Console) Refuse(user string) *session.Failure {
	if slices.Contains(c.cfg.Users, user) || slices.Contains(c.cfg.StatsUsers, user) {
		return nil
	}
	return &session.Failure{
		SQLSTATE: "28000", Message: fmt.Sprintf("role %q may not use the console", user),
		Hint: "proxy.admin.users and proxy.admin.stats_users list who may.",
	}
}

// Parameters are what a client is told at login.
func (c *Console) Parameters() []session.Parameter { return c.cfg.Parameters }

// Bounds of one client.
const (
	maxMessage  = 64 << 10 // bytes of one message
	readAhead   = 16       // messages read while a command is carried out
	maxPrepared = 100      // statements, and portals
)

// message is one message of a client.
type message struct {
	typ  byte
	body []byte
}

// Serve answers the client of conn, who has been told that it is ready, until the connection ends. Each value on cancels
// is a CancelRequest. It closes nothing.
func (c *Console) Serve(ctx context.Context, conn net.Conn, user string, cancels <-chan struct{}) {
	s := &conversation{console: c, conn: conn, user: user, cancels: cancels, status: wire.StatusIdle,
		statements: map[string]*prepared{}, portals: map[string]*portal{}}
	s.log = c.log.With("console", user)
	s.admin = slices.Contains(c.cfg.Users, user)
	messages := make(chan message, readAhead) // closed by the reader
	ended := make(chan struct{})
	leaving := make(chan struct{})
	s.ended = ended
	var reader sync.WaitGroup
	reader.Go(func() { // ends with the connection, or with leaving once a read has returned
		defer close(messages)
		defer close(ended)
		read(conn, messages, leaving)
	})
	for m := range messages {
		if !s.handle(ctx, m) {
			break
		}
	}
	close(leaving)
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // whatever it says, the reader returns
	reader.Wait()
}

// read hands out messages until the connection ends or one is too long, which is handed out without its body.
func read(conn net.Conn, messages chan<- message, leaving <-chan struct{}) {
	for {
		var header [wire.HeaderLen]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		length := int64(binary.BigEndian.Uint32(header[1:])) - 4
		m := message{typ: header[0]}
		tooLong := length < 0 || length > maxMessage
		if tooLong {
			m.typ = 0
		} else {
			m.body = make([]byte, length)
			if _, err := io.ReadFull(conn, m.body); err != nil {
				return
			}
		}
		select {
		case messages <- m:
		case <-leaving:
			return
		}
		if tooLong {
			return
		}
	}
}
