package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
)

// leakPlace is a database with the user of some sessions, and what limits how many of them may keep a server.
type leakPlace struct {
	database, user, password string
	permits                  chan struct{} // for sessions that keep their server connection
}

// leakInbox lets others notify a session only while it surely listens.
type leakInbox struct {
	listening sync.RWMutex // held for writing while that changes
	open      bool         // guarded by listening

	mu     sync.Mutex
	posted []string // what others have sent
}

// leakSession is one client: its connection to the proxy, and its twin, which does the same on a PostgreSQL of its own.
// What the twin hears is what the session must hear.
type leakSession struct {
	world   *leakWorld
	place   *leakPlace
	name    string
	channel string
	rng     *rand.Rand
	inbox   *leakInbox
	token   string // of this life, in every text that it makes
	life    int
	steps   int
	proxied *leakLine
	twin    *leakLine
	pinned  bool // it holds a permit
	lasting bool // only its end gives the permit back
	history []string
}

// run lives several lives, until ctx ends or something differs.
func (s *leakSession) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.life++
		s.token = fmt.Sprintf("%s-%d", s.name, s.life)
		if err := s.live(ctx); err != nil {
			return fmt.Errorf("what came before:\n%s\n%s: %w", strings.Join(s.history, "\n"), s.token, err)
		}
	}
	return nil
}

func (s *leakSession) live(ctx context.Context) error {
	startup := s.startup()
	s.note("login %v", startup)
	// The login must not end with ctx: what ends is the session.
	dial, cancel := context.WithTimeout(context.WithoutCancel(ctx), leakPatience)
	defer cancel()
	var err error
	if s.twin, err = dialLeak(dial, s.world.twinURL(s.place), startup, s.world.patience); err != nil {
		return fmt.Errorf("twin: %w", err)
	}
	defer func() { _ = s.twin.conn.Close() }()
	if s.proxied, err = dialLeak(dial, s.world.url(s.place), startup, s.world.patience); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	defer func() {
		_ = s.proxied.conn.Close()
		s.unpin()
	}()
	for left := 10 + s.rng.IntN(60); left > 0 && ctx.Err() == nil; left-- {
		if err := s.step(); err != nil {
			return err
		}
	}
	return s.leave()
}

// step makes one move that is possible now.
func (s *leakSession) step() error {
	for {
		m := &leakMoves[s.world.weights.pick(s.rng)]
		if m.idle && s.twin.status != 'I' || m.pins && !s.pin() {
			continue
		}
		s.steps++
		if err := m.do(s); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		return nil
	}
}

// pin takes a permit to keep a server connection, if there is one.
func (s *leakSession) pin() bool {
	if s.pinned {
		return true
	}
	select {
	case s.place.permits <- struct{}{}:
		s.pinned = true
	default:
	}
	return s.pinned
}

// unpin gives the permit back once nothing keeps the server connection any more.
func (s *leakSession) unpin() {
	if s.pinned {
		<-s.place.permits
		s.pinned, s.lasting = false, false
	}
}

func (s *leakSession) note(format string, args ...any) {
	const kept = 60
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), looks, "(looks)")
	if len(text) > 2000 {
		text = text[:2000] + "..."
	}
	s.history = append(s.history, text)
	if len(s.history) > kept {
		s.history = slices.Delete(s.history, 0, len(s.history)-kept)
	}
}

// play says the same to the twin and to the proxy and compares the answers.
func (s *leakSession) play(messages ...pgproto3.FrontendMessage) error {
	_, err := s.heard(messages...)
	return err
}

func (s *leakSession) heard(messages ...pgproto3.FrontendMessage) ([]string, error) {
	for _, m := range messages {
		s.note("> %s", request(m))
	}
	want, err := s.twin.exchange(messages...)
	if err != nil {
		return nil, fmt.Errorf("twin: %w", err)
	}
	s.note("< %s", strings.Join(want, " | "))
	got, err := s.proxied.exchange(messages...)
	if err != nil {
		return nil, fmt.Errorf("through the proxy, where %q was to come: %w", want, err)
	}
	if !slices.Equal(got, want) {
		return nil, fmt.Errorf("heard\n  %s\nbut had to hear\n  %s", strings.Join(got, " | "), strings.Join(want, " | "))
	}
	return want, s.checkNotified()
}

func request(m pgproto3.FrontendMessage) string {
	switch m := m.(type) {
	case *pgproto3.Query:
		return "query " + m.String
	case *pgproto3.CopyData:
		return fmt.Sprintf("copy data %q", m.Data)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T %+v", m, m), "*pgproto3.")
}

// checkNotified sees that no notification came that was sent to somebody else.
func (s *leakSession) checkNotified() error {
	for _, n := range s.proxied.notified {
		if channel, _, _ := strings.Cut(n, " "); channel != s.channel || !s.inbox.open {
			return fmt.Errorf("notified of %q, but listens to %q: %t", n, s.channel, s.inbox.open)
		}
	}
	return nil
}

// settle waits until everything that was sent to the session has come, no more and no less. The inbox is locked.
func (s *leakSession) settle() error {
	s.inbox.mu.Lock()
	posted := slices.Clone(s.inbox.posted)
	s.inbox.posted = nil
	s.inbox.mu.Unlock()
	all := func(l *leakLine) func() bool {
		return func() bool {
			for _, p := range posted {
				if !slices.Contains(l.notified, p) {
					return false
				}
			}
			return true
		}
	}
	if err := s.twin.await(all(s.twin)); err != nil {
		return fmt.Errorf("twin: notifications: %w", err)
	}
	if err := s.proxied.await(func() bool { return all(s.proxied)() && len(s.proxied.notified) >= len(s.twin.notified) }); err != nil {
		return fmt.Errorf("notifications %q of %q: %w", s.proxied.notified, s.twin.notified, err)
	}
	slices.Sort(s.proxied.notified)
	slices.Sort(s.twin.notified)
	if !slices.Equal(s.proxied.notified, s.twin.notified) {
		return fmt.Errorf("notified of %q, want %q", s.proxied.notified, s.twin.notified)
	}
	err := s.checkNotified()
	s.proxied.notified, s.twin.notified = nil, nil
	return err
}

// changeListening runs a change of what the session listens to, when nobody is about to notify it.
func (s *leakSession) changeListening(change func() error) error {
	if !s.inbox.listening.TryLock() {
		return nil // next time: waiting here could keep a server from who holds it
	}
	defer s.inbox.listening.Unlock()
	if err := s.settle(); err != nil {
		return err
	}
	return change()
}

// leave ends a life, in one of the ways in which clients leave.
func (s *leakSession) leave() error {
	if err := s.stopListening(); err != nil {
		return err
	}
	if err := s.twin.send(&pgproto3.Terminate{}); err != nil {
		return fmt.Errorf("twin: %w", err)
	}
	var last []pgproto3.FrontendMessage
	switch s.rng.IntN(6) {
	case 0: // without a word
	case 1: // while a statement runs
		last = []pgproto3.FrontendMessage{&pgproto3.Query{String: "select pg_sleep(0.05), " + quoted(s.token)}}
	case 2: // in the middle of a COPY, and of a message of it
		last = []pgproto3.FrontendMessage{
			&pgproto3.Query{String: "copy leak_rows from stdin"}, &pgproto3.CopyData{Data: []byte(s.token + "-lost\t1\n")},
		}
	case 3: // while results come
		last = []pgproto3.FrontendMessage{
			&pgproto3.Query{String: "select " + quoted(s.token) + " from generate_series(1, 20000)"},
		}
	default:
		last = []pgproto3.FrontendMessage{&pgproto3.Terminate{}}
	}
	s.note("> leaves: %v", last)
	if err := s.proxied.send(last...); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if len(last) == 2 {
		if _, err := s.proxied.conn.Write([]byte{'d', 0, 0, 1, 0, 'x'}); err != nil {
			return fmt.Errorf("leave: %w", err)
		}
	}
	return errors.Join(s.proxied.conn.Close(), s.twin.conn.Close())
}

// stopListening waits for what is still to come, and lets nobody notify the session any more. It has no transaction open
// then: waiting with one could keep the server from who holds the lock.
func (s *leakSession) stopListening() error {
	if !s.inbox.open {
		return nil
	}
	if s.twin.status != 'I' {
		if err := s.play(&pgproto3.Query{String: "rollback"}); err != nil {
			return err
		}
	}
	s.inbox.listening.Lock()
	defer s.inbox.listening.Unlock()
	err := s.settle()
	s.inbox.open = false
	return err
}

// quoted makes an SQL literal.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
