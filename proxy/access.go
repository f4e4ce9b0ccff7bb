package proxy

import (
	"time"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/replication/boottime"
)

// Source is where the passwords of roles are known.
type Source string

// The sources.
const (
	SourceCluster Source = "cluster" // the roles of the cluster, by the function walgate.verifier(text)
	SourceQuery   Source = "query"   // a query of the operator's own
	SourceFile    Source = "file"    // Access.Users
)

// AuthQuery is the question of SourceQuery; see auth.ClusterLookup.
type AuthQuery struct{ SQL, User, Password, Database string }

// Access is what may be replaced while the Server runs.
type Access struct {
	Policy login.Policy
	Users  auth.Users // secrets of roles: for SourceFile, and toward servers
}

// lookupPatience is how long a login waits for the newest credential of its role when an old one is known.
const lookupPatience = 300 * time.Millisecond

// buildDoor makes what logins need.
func (s *Server) buildDoor() error {
	s.SetAccess(s.cfg.Access)
	var sources []auth.Lookup
	for _, source := range s.cfg.Sources {
		switch source {
		case SourceFile:
			sources = append(sources, &s.door.users)
		case SourceCluster:
			s.lookups = append(s.lookups, &auth.ClusterLookup{
				View: s.deps.View, User: s.cfg.MonitorUser, Password: s.cfg.MonitorPassword, Database: s.cfg.MonitorDatabase,
				Query: auth.ClusterQuery,
			})
			sources = append(sources, s.lookups[len(s.lookups)-1])
		case SourceQuery:
			s.lookups = append(s.lookups, &auth.ClusterLookup{
				View: s.deps.View, User: s.cfg.Query.User, Password: s.cfg.Query.Password, Database: s.cfg.Query.Database,
				Query: s.cfg.Query.SQL,
			})
			sources = append(sources, s.lookups[len(s.lookups)-1])
		}
	}
	directory, err := auth.NewDirectory(auth.Config{
		Refresh: s.cfg.VerifierRefresh, Patience: lookupPatience, LookupTimeout: s.cfg.ConnectTimeout, MaxEntries: s.cfg.MaxVerifiers,
		MaxConcurrent: s.cfg.MaxConcurrentLog, MockSecret: s.cfg.MockSecret, Iterations: s.cfg.SCRAMIterations,
	}, sources, boottime.Now)
	if err != nil {
		return err
	}
	s.door.checker, err = login.NewChecker(s.door, directory, s.cfg.Access.Policy)
	return err
}

// SetAccess replaces the rules and the user file for logins that begin from now on; nobody who is in is put out.
func (s *Server) SetAccess(access Access) {
	s.door.users.Store(access.Users)
	if s.door.checker != nil {
		s.door.checker.SetPolicy(access.Policy)
	}
}
