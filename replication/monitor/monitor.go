package monitor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// Config says how to ask. All fields but TLS are required.
type Config struct {
	User     string                 // a role that is a member of pg_monitor
	Password func() (string, error) // asked at each login, so that a changed secret is picked up
	Database string
	TLS      *tls.Config // nil: clear text. Without a ServerName each member's host is verified

	ConnectTimeout time.Duration // for a login
	QueryTimeout   time.Duration // for an answer; a member that exceeds it is unreachable
	ActivePeriod   time.Duration // between questions while somebody wants answers
	HastyPeriod    time.Duration // between questions while somebody stands still for want of them
	IdlePeriod     time.Duration // between questions otherwise
	ActiveFor      time.Duration // how long a Wake counts
}

func (c Config) validate() error {
	switch {
	case c.User == "" || c.Password == nil || c.Database == "":
		return errors.New("monitor: user, password and database are required")
	case c.ConnectTimeout <= 0 || c.QueryTimeout <= 0 || c.ActivePeriod <= 0 || c.HastyPeriod <= 0 || c.ActiveFor <= 0:
		return errors.New("monitor: timeouts and periods must be positive")
	case c.IdlePeriod < c.ActivePeriod || c.ActivePeriod < c.HastyPeriod:
		return errors.New("monitor: the idle period is shorter than the active one, or that than the hasty one")
	}
	return nil
}

// Monitor keeps a StatusBoard true. Wake and Hasten may be called from any goroutine, also before and after Run.
type Monitor struct {
	cfg         Config
	views       *replication.Feed[replication.View]
	board       *board
	log         *slog.Logger
	activeUntil atomic.Int64             // a replication.Instant
	hastyUntil  atomic.Int64             // as above
	woken       replication.Feed[uint64] // counts the wakes that found the monitor slower
	wakes       atomic.Uint64
}

// New returns a monitor of the members that views name; it publishes to boards and is its only publisher.
func New(cfg Config, views *replication.Feed[replication.View], boards *replication.Feed[replication.StatusBoard], log *slog.Logger) (*Monitor, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Monitor{cfg: cfg, views: views, board: newBoard(boards), log: log}, nil
}

// Wake says that somebody waits for fresh answers: for a while members are asked every ActivePeriod. It is cheap while
// the monitor is active.
func (m *Monitor) Wake() { m.extend(&m.activeUntil, m.cfg.ActiveFor) }

// Hasten says that somebody stands still until answers come: for a moment members are asked every HastyPeriod. Who still
// waits after an answer says so again.
func (m *Monitor) Hasten() {
	const periods = 10
	m.extend(&m.hastyUntil, periods*m.cfg.HastyPeriod)
}

// extend has a pace hold for so long from now.
func (m *Monitor) extend(end *atomic.Int64, last time.Duration) {
	now := boottime.Now()
	until := replication.Instant(end.Load())
	if until.Sub(now) > last/2 {
		return
	}
	end.Store(int64(now.Add(last)))
	if until.Before(now) {
		m.woken.Publish(m.wakes.Add(1))
	}
}

// Run asks until ctx ends, and returns when every goroutine of its own has ended. The error is the context's cause.
func (m *Monitor) Run(ctx context.Context) error {
	var members sync.WaitGroup
	defer members.Wait()
	running := map[replication.NodeID]asking{}
	defer func() {
		for _, a := range running {
			a.cancel()
		}
	}()
	for {
		view, changed := m.views.Changed()
		m.board.follow(view)
		for name, a := range running {
			if member, ok := view.Member(name); !ok || member.Host != a.host || member.Port != a.port {
				a.cancel()
				<-a.done
				delete(running, name)
				m.board.forget(name)
			}
		}
		for _, member := range view.Members {
			if _, ok := running[member.Name]; ok {
				continue
			}
			asked, cancel := context.WithCancel(ctx)
			a := asking{host: member.Host, port: member.Port, cancel: cancel, done: make(chan struct{})}
			running[member.Name] = a
			members.Go(func() {
				// Ends when the member leaves the view or Run ends.
				defer close(a.done)
				m.follow(asked, member)
			})
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("monitor: %w", context.Cause(ctx))
		}
	}
}

// asking is the goroutine of one member, as Run keeps it.
type asking struct {
	host   string
	port   int
	cancel context.CancelFunc
	done   chan struct{} // closed by the goroutine
}

// follow asks one member until ctx ends.
func (m *Monitor) follow(ctx context.Context, member replication.Member) {
	log := m.log.With("node", member.Name)
	server := &server{cfg: m.cfg, member: member}
	defer server.close()
	known, reachable := false, false
	for ctx.Err() == nil {
		askedAt := boottime.Now()
		answer, err := server.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		m.board.record(member.Name, askedAt, boottime.Now(), answer, err)
		if ok := err == nil; ok != reachable || !known {
			known, reachable = true, ok
			if ok {
				log.Info("member answers", "role", answer.status.Role, "timeline", answer.status.Timeline)
			} else {
				log.Warn("member does not answer", "error", err)
			}
		}
		m.pause(ctx, askedAt)
	}
}

// pause waits until the next question is due: the period counts from question to question.
func (m *Monitor) pause(ctx context.Context, asked replication.Instant) {
	for {
		_, woken := m.woken.Changed()
		now := boottime.Now()
		period := m.cfg.IdlePeriod
		switch {
		case now.Before(replication.Instant(m.hastyUntil.Load())):
			period = m.cfg.HastyPeriod
		case now.Before(replication.Instant(m.activeUntil.Load())):
			period = m.cfg.ActivePeriod
		}
		left := asked.Add(period).Sub(now)
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-woken:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
