package proxy

import (
	"context"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// Server is a proxy. It is safe for concurrent use.
type Server struct {
	cfg    Config
	deps   Deps
	report replication.Feed[DrainReport]
}

// New checks the configuration; nothing listens before Run.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := deps.validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, deps: deps}, nil
}

// Run listens and serves until ctx ends, then shuts down within Config.ShutdownGrace. It returns nil after such an end.
func (s *Server) Run(ctx context.Context) error { return nil }

// Report returns the newest drain report.
func (s *Server) Report() DrainReport { return s.report.Load() }

// Reports is the feed of drain reports; a report is published when the view changes, and while draining when OpenTx
// changes.
func (s *Server) Reports() *replication.Feed[DrainReport] { return &s.report }

// SessionInfo is one row of SHOW CLIENTS.
type SessionInfo struct {
	ID     uint32
	Client string // its address
	session.Info
}

// Sessions returns a snapshot of all sessions, ordered by ID.
func (s *Server) Sessions() []SessionInfo { return nil }
