package app

import (
	"github.com/walgate/walgate/ha/api"
	"github.com/walgate/walgate/proxy/session"
)

// sessions words the proxy's clients for the API.
func (c *common) sessions() []api.Session {
	all := c.proxy.Sessions()
	out := make([]api.Session, 0, len(all))
	for _, s := range all {
		word := api.Session{
			ID: s.ID, Client: s.Client, User: s.User, Database: s.Database, Application: s.Application,
			State: stateWord(s.State), InTransaction: s.InTransaction, Held: s.Held, Pinned: s.Pinned,
			Target: s.Target.String(), Consistency: s.Level.String(), Turns: s.Turns, Retried: s.Retried, Failed: s.Failed,
		}
		if s.Server != nil {
			word.Server = string(s.Server.Node)
		}
		out = append(out, word)
	}
	return out
}

func stateWord(s session.State) string {
	switch s {
	case session.StateLogin:
		return "login"
	case session.StateIdle:
		return "idle"
	case session.StateWaiting:
		return "waiting"
	case session.StateActive:
		return "active"
	default:
		return "closing"
	}
}
