package proxy

import (
	"errors"
	"fmt"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

// PoolRule is what the sessions of some databases and users get.
type PoolRule struct {
	Database string // empty: any
	User     string // empty: any
	Mode     session.PoolMode
	Reads    session.Reads // where they are set; Wait is not looked at
	Servers  pool.Limits

	// Client connections of one database and of one user, logged in; 0: no limit but Config.MaxClients.
	DatabaseClients int
	UserClients     int
}

// rules are looked at in their order; the first that matches counts.
type rules []PoolRule

// newRules adds what holds for everybody else.
func newRules(cfg Config) rules {
	return append(append(rules{}, cfg.Pools...), PoolRule{Servers: pool.Limits{Max: cfg.PoolMax}})
}

func (r rules) find(database, user string) *PoolRule {
	for i := range r {
		if (r[i].Database == "" || r[i].Database == database) && (r[i].User == "" || r[i].User == user) {
			return &r[i]
		}
	}
	panic("invariant: the last rule matches every session")
}

func (r rules) limits(database, user string) pool.Limits { return r.find(database, user).Servers }

// warm lists the logins that a rule names in full and wants connections for.
func (r rules) warm() (all []pool.Login) {
	for _, rule := range r {
		if rule.Database != "" && rule.User != "" && rule.Servers.Min > 0 {
			all = append(all, pool.Login{Database: rule.Database, User: rule.User})
		}
	}
	return all
}

func (r rules) validate() error {
	for i, rule := range r {
		l := rule.Servers
		switch {
		case l.Max <= 0:
			return fmt.Errorf("proxy: pool rule %d: max must be positive", i)
		case l.Min < 0 || l.Min > l.Max:
			return fmt.Errorf("proxy: pool rule %d: min must lie between 0 and max", i)
		case l.Reserve < 0 || l.Database < 0 || l.User < 0 || rule.DatabaseClients < 0 || rule.UserClients < 0:
			return fmt.Errorf("proxy: pool rule %d: a limit is negative", i)
		}
	}
	return nil
}

var errPoolTimes = errors.New("proxy: PoolNodeMax or PoolCheckDelay is negative, or PoolReserveTimeout not positive")

// tooMany says that a database or user has its clients.
func tooMany(what, name string, limit int, key string) *session.Failure {
	return &session.Failure{
		SQLSTATE: "53300", Message: fmt.Sprintf("too many client connections for %s %q", what, name),
		Detail: fmt.Sprintf("%d are logged in, which is the limit.", limit),
		Hint:   "Close connections that are not needed, or raise " + key + " of proxy.pool or proxy.pools.",
	}
}
