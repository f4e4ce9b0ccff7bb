package proxy

import (
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

// driver runs sessions: netdriver.Driver with goroutines, loop.Driver on epoll loops. Clients are named by the process
// id that registry.enter gave them; an id that a driver does not know (any more) is none of its business. Methods are
// safe for concurrent use. It is one interface of this size because a driver is all of this or nothing.
type driver interface {
	// ViewChanged lets every session that waits or has a server look at the newest view.
	ViewChanged()
	// SetDraining says whether the driver reports each turn that has ended on the primary.
	SetDraining(on bool)
	// Shutdown ends every session at the next moment at which it has no transaction open; Kill ends them now.
	Shutdown(failure session.Failure)
	Kill(failure session.Failure)
	// KillClient ends one session now, and reports whether it was there.
	KillClient(id uint32, failure session.Failure) bool
	// CancelRequested carries out a CancelRequest whose key was right.
	CancelRequested(id uint32)
	// Sessions calls yield for each session, with the address of its client.
	Sessions(yield func(id uint32, client string, info session.Info))
	// Lines calls yield for each session, with what is known of its client's connection.
	Lines(yield func(id uint32, line pool.Line))
	// IdleOnPrimary counts the sessions that keep a primary connection without an open turn or transaction.
	IdleOnPrimary() int
	// Counts sums what the driver has seen.
	Counts() session.Counts
}
