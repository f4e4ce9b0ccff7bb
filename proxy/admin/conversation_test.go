package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
)

// listener is a client that only listens.
type listener struct {
	net.Conn
	heard bytes.Buffer
}

func (l *listener) Write(b []byte) (int, error)      { return l.heard.Write(b) }
func (l *listener) SetWriteDeadline(time.Time) error { return nil }

// FuzzConversation: whatever a client of the console sends, each answer can be read by an independent codec, and each
// Query and each Sync is answered by one ReadyForQuery. Its user may not change anything.
func FuzzConversation(f *testing.F) {
	f.Add(wire.AppendQuery(wire.AppendQuery(nil, "show version; select 1"), "pause; show help"))
	f.Add(append(wiretest.Extended("a", "show version"), wiretest.Extended("", "set x = 1")...))
	f.Add(append(wiretest.Encode(&pgproto3.Close{ObjectType: 'S', Name: "a"}), wiretest.Encode(&pgproto3.Describe{ObjectType: 'P'})...))
	f.Add([]byte{'B', 0, 0, 0, 10, 0, 0, 0xff, 0xff, 0, 1, 'S', 0, 0, 0, 4, 'Q', 0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, stream []byte) {
		conn := new(listener)
		console, err := New(Config{Users: []string{"boss"}, StatsUsers: []string{"u"}, StatsPeriod: time.Minute, WriteTimeout: time.Minute},
			quiet{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s := &conversation{console: console, conn: conn, log: console.log, user: "u", status: wire.StatusIdle,
			statements: map[string]*prepared{}, portals: map[string]*portal{}}
		turns := 0
		for cutter := (wire.Cutter{Frontend: true}); len(stream) > 0; {
			p, n, err := cutter.Cut(stream, true)
			if err != nil || n == 0 || !p.Last {
				break
			}
			stream = stream[n:]
			if p.Type == 'Q' || p.Type == 'S' {
				turns++
			}
			if !s.handle(context.Background(), message{typ: p.Type, body: p.Bytes[wire.HeaderLen:]}) {
				turns = -1
				break
			}
			if s.skip && p.Type == 'Q' {
				turns-- // dropped up to Sync
			}
		}
		s.flush()
		readAnswers(t, conn.heard.Bytes(), turns)
	})
}

func readAnswers(t *testing.T, heard []byte, turns int) {
	front := pgproto3.NewFrontend(pgproto3.NewChunkReader(bytes.NewReader(heard)), io.Discard)
	ready := 0
	for {
		m, err := front.Receive()
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Fatalf("the answer can't be read: %v: %q", err, heard)
			}
			break
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			ready++
		}
	}
	if turns >= 0 && ready != turns {
		t.Fatalf("%d ReadyForQuery for %d turns: %s", ready, turns, wiretest.Describe(heard))
	}
}

// quiet is a proxy of which there is nothing to show.
type quiet struct{}

func (quiet) Snapshot() *Snapshot { return new(Snapshot) }

func (quiet) Do(context.Context, Command) (string, error) {
	panic("a user of the statistics does something")
}
