package proxy

import (
	"time"

	"github.com/walgate/walgate/proxy/session"
)

// Tunable is the part of a Config that can change while the proxy runs; see there for what its fields are.
type Tunable struct {
	MaxClients, MaxLogins, MaxAddressLogins int
	MaxHeld                                 int
	MaxHeldBytes                            int64
	ShutdownGrace                           time.Duration
	Timeouts                                session.Timeouts
}

// Tunable returns the part that can change.
func (c *Config) Tunable() Tunable {
	return Tunable{
		MaxClients: c.MaxClients, MaxLogins: c.MaxLogins, MaxAddressLogins: c.MaxAddressLogins, MaxHeld: c.MaxHeld,
		MaxHeldBytes: c.MaxHeldBytes, ShutdownGrace: c.ShutdownGrace, Timeouts: c.Timeouts,
	}
}

// with returns the configuration with another such part.
func (c Config) with(t Tunable) Config {
	c.MaxClients, c.MaxLogins, c.MaxAddressLogins, c.MaxHeld = t.MaxClients, t.MaxLogins, t.MaxAddressLogins, t.MaxHeld
	c.MaxHeldBytes, c.ShutdownGrace, c.Timeouts = t.MaxHeldBytes, t.ShutdownGrace, t.Timeouts
	return c
}

// Tune changes what can change. Who is there already stays, whatever the new limits are.
func (s *Server) Tune(t Tunable) error {
	if err := s.cfg.with(t).validate(); err != nil {
		return err
	}
	s.tuned.Store(&t)
	s.timeouts.Store(&t.Timeouts)
	s.sessions.limit(t.MaxClients, t.MaxLogins, t.MaxAddressLogins)
	s.broker.limit(t.MaxHeld, t.MaxHeldBytes)
	return nil
}
