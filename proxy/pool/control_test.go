package pool

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

func TestPause(t *testing.T) {
	b := newBench(t, nil)
	busy, idle := b.take(t), b.take(t)
	b.release(idle)
	busy2 := b.take(t)
	waiting, w, _ := b.ask(t, 1)
	tickets := b.Pause("db")
	if len(tickets) != 1 || tickets[0] != waiting {
		t.Fatalf("tickets sent away: %v", tickets)
	}
	if all, databases := b.Paused(); all || len(databases) != 1 {
		t.Errorf("paused: %v %v", all, databases)
	}
	if _, ok := b.Acquire("n1", replication.RolePrimary, 1, waiting); ok {
		t.Error("a connection of a paused database was lent")
	}
	ours := func(s ServerInfo) bool { return s.Database == "db" }
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.AwaitNone(short, ours); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connections in use were not waited for: %v", err)
	}
	b.release(busy)
	b.release(busy2)
	if err := b.AwaitNone(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	if !b.Resume("db") || b.Resume("db") || b.Resume("") {
		t.Error("resumed what was not paused, or the other way round")
	}
	if s, ok := b.Acquire("n1", replication.RolePrimary, 1, waiting); !ok || s == nil && w.want(t).server == nil {
		t.Error("nothing is lent after the pause")
	}
}

func TestReconnect(t *testing.T) {
	b := newBench(t, nil)
	busy, idle := b.take(t), b.take(t)
	b.release(idle)
	b.Reconnect("other")
	if s := b.take(t); s != idle {
		t.Fatal("another database's servers were closed")
	}
	b.release(idle)
	b.Reconnect("db")
	outdated := func(s ServerInfo) bool { return s.Outdated }
	if got := receive(t, b.ended, "the end of the idle connection"); got != idle {
		t.Error("another connection ended")
	}
	fresh := b.take(t)
	if fresh == idle || fresh == busy {
		t.Error("an old connection was lent")
	}
	b.release(busy)
	if got := receive(t, b.ended, "the end of the connection that was in use"); got != busy {
		t.Error("another connection ended")
	}
	if err := b.AwaitNone(t.Context(), outdated); err != nil {
		t.Fatal(err)
	}
	b.release(fresh)
	if got := b.take(t); got != fresh {
		t.Error("a fresh connection was not kept")
	}
}
