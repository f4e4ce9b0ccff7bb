package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// statement is a name that all sessions use, each for a text of its own.
func (s *leakSession) statement() string { return s.one("p0", "p1", "p2") }

// text is a statement with one parameter, the session's own or one that many sessions have.
func (s *leakSession) text() string {
	return s.one(
		"select "+quoted(s.token)+"::text, $1::int",
		"select current_setting('leak.a', true), $1::int + 1",
		"select current_user, session_user, $1::int, '2001-02-03 04:05:06+00'::timestamptz",
		"select * from here where $1::int > 0",
		"insert into public.leak_rows values ("+quoted(s.token)+", $1::int) returning *",
		"select 1 / $1::int",
		`select 'a\\b', 'it''s', $1::int`,
	)
}

func (s *leakSession) parse() error {
	name := s.statement()
	messages := []pgproto3.FrontendMessage{&pgproto3.Parse{Name: name, Query: s.text()}}
	if s.rng.IntN(2) == 0 {
		messages = slices.Insert(messages, 0, pgproto3.FrontendMessage(&pgproto3.Close{ObjectType: 'S', Name: name}))
	}
	if s.rng.IntN(2) == 0 {
		messages = append(messages, &pgproto3.Describe{ObjectType: 'S', Name: name})
	}
	return s.play(append(messages, &pgproto3.Sync{})...)
}

func (s *leakSession) executing(name string) []pgproto3.FrontendMessage {
	return []pgproto3.FrontendMessage{
		&pgproto3.Bind{PreparedStatement: name, Parameters: [][]byte{fmt.Append(nil, s.rng.IntN(5))}},
		&pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{},
	}
}

func (s *leakSession) execute() error {
	return s.play(append(s.executing(s.statement()), &pgproto3.Sync{})...)
}

// pipeline sends many messages at once, of which some fail.
func (s *leakSession) pipeline() error {
	var messages []pgproto3.FrontendMessage
	for range 1 + s.rng.IntN(6) {
		switch s.rng.IntN(6) {
		case 5:
			name, value := s.setting()
			messages = append(messages, &pgproto3.Parse{Query: fmt.Sprintf("%s %s = %s", s.one("set", "set local"), name, value)},
				&pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{})
		case 0:
			messages = append(messages, &pgproto3.Parse{Name: s.statement(), Query: s.text()})
		case 1:
			messages = append(messages, &pgproto3.Parse{Query: s.text()})
			messages = append(messages, s.executing("")...)
		case 2:
			messages = append(messages, &pgproto3.Sync{})
		case 3:
			messages = append(messages, &pgproto3.Close{ObjectType: 'S', Name: s.statement()})
		default:
			messages = append(messages, s.executing(s.statement())...)
		}
	}
	return s.play(append(messages, &pgproto3.Sync{})...)
}

func (s *leakSession) prepareSQL() error {
	return s.simple("prepare %s(int) as %s", s.statement(), s.text())
}

func (s *leakSession) copyIn() error {
	good := fmt.Sprintf("%s\t%d\n", s.token, s.steps)
	messages := []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "copy public.leak_rows from stdin"}, &pgproto3.CopyData{Data: []byte(good)},
	}
	switch s.rng.IntN(3) {
	case 0:
		messages = append(messages, &pgproto3.CopyData{Data: []byte(good)}, &pgproto3.CopyDone{})
	case 1:
		messages = append(messages, &pgproto3.CopyFail{Message: "no more of " + s.token})
	default:
		messages = append(messages, &pgproto3.CopyData{Data: []byte(s.token + "\trubbish\n")}, &pgproto3.CopyDone{})
	}
	return s.play(messages...)
}

// cursor uses cursors, those of a transaction and the one that outlives it.
func (s *leakSession) cursor() error {
	return s.simple("%s", s.one("declare c cursor for select "+quoted(s.token)+" || i from generate_series(1, 9) i",
		"fetch 2 from c", "close c", "fetch 2 from held", "close held", "fetch all from held"))
}

func (s *leakSession) temporary() error {
	return s.simple("%s", s.one("create temp table mine (v text)", "create temp table mine (v text) on commit drop",
		"create temporary table mine as select "+quoted(s.token)+" as v", "insert into mine values ("+quoted(s.token)+")",
		"select * from mine", "drop table mine"))
}

func (s *leakSession) sessionLock() error {
	return s.sql("select %s(%d)", s.one("pg_advisory_lock", "pg_try_advisory_lock", "pg_advisory_unlock", "pg_advisory_lock_shared"), s.lock())
}

func (s *leakSession) listen() error {
	return s.changeListening(func() error {
		listens := s.rng.IntN(3) > 0
		statement := "listen "
		if !listens {
			statement = "unlisten "
		}
		s.inbox.open = s.inbox.open || listens // what comes with the answer is welcome
		err := s.simple("%s%s", statement, s.channel)
		s.inbox.open = listens
		return err
	})
}

// notifyAnother sends something to a session that surely listens, and will until this is done.
func (s *leakSession) notifyAnother() error {
	to := s.world.other(s)
	if to == nil || !to.inbox.listening.TryRLock() {
		return nil
	}
	defer to.inbox.listening.RUnlock()
	if !to.inbox.open {
		return nil
	}
	payload := fmt.Sprintf("from %s, %d", s.token, s.steps)
	said, err := s.heard(&pgproto3.Query{String: fmt.Sprintf("notify %s, %s", to.channel, quoted(payload))})
	if err != nil || said[0] != "complete NOTIFY" {
		return err
	}
	to.inbox.mu.Lock()
	defer to.inbox.mu.Unlock()
	to.inbox.posted = append(to.inbox.posted, to.channel+" "+payload)
	return nil
}

// discard throws session state away; afterwards nothing keeps the server connection, but for what lasts.
func (s *leakSession) discard() error {
	if s.rng.IntN(3) == 0 {
		return s.simple("%s", s.one("discard temp", "discard plans", "close all", "select pg_advisory_unlock_all()"))
	}
	return s.changeListening(func() error {
		err := s.simple("discard all")
		s.inbox.open = false
		if err == nil && !s.lasting {
			s.unpin()
		}
		return err
	})
}

// cancel has a statement of its own cancelled. That says nothing to the twin.
func (s *leakSession) cancel() error {
	ctx, stop := context.WithTimeout(context.Background(), leakPatience)
	defer stop()
	s.note("> cancelled: select pg_sleep")
	type reply struct {
		said []string
		err  error
	}
	came := make(chan reply, 1)
	go func() {
		said, err := s.proxied.exchange(&pgproto3.Query{String: "select pg_sleep(60), " + quoted(s.token)})
		came <- reply{said, err}
	}()
	for {
		err := s.proxied.cancel(ctx)
		select {
		case r := <-came:
			if got := strings.Join(r.said, "|"); r.err == nil && !strings.Contains(got, "error ERROR 57014") {
				return fmt.Errorf("cancelled, but heard %s", got)
			}
			return r.err
		default:
		}
		if err != nil {
			return errors.Join(err, (<-came).err)
		}
	}
}
