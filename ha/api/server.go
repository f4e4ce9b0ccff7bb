package api

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// Config says how a Server listens and what it allows. Nothing is defaulted here.
type Config struct {
	Cluster string
	Node    replication.NodeID // empty in a process without a PostgreSQL of its own
	Listen  string             // host:port
	TLS     *tls.Config        // nil: clear text
	Token   string             // of unsafe verbs; empty: they work on a loopback listener only
	Version string             // of walgate
	Pprof   bool               // serves profiles of this process; Listen must be loopback then

	MinTTL time.Duration // least ttl that the other times of this process allow
	// SwitchoverMaxLag is how far, in bytes, a candidate may be behind when a switchover begins.
	SwitchoverMaxLag int64
	DrainTimeout     time.Duration // see ha.Handoff
	HandoffTimeout   time.Duration
	// CheckParameters refuses PostgreSQL parameters that may not be in the record.
	CheckParameters func(map[string]string) error
	// EndWait is how long a verb waits, after HandoffTimeout, for the state that it is to bring about.
	EndWait time.Duration
}

// Records is the part of the store that verbs need; *store.Store is one.
type Records interface {
	Read(ctx context.Context) (store.Snapshot, error)
	PutRecord(ctx context.Context, prevRev int64, record ha.Record) (rev int64, err error)
}

// Local is the node of this process. Its methods answer when the work is done, or refuse it.
type Local interface {
	// Restart stops PostgreSQL and starts it again.
	Restart(ctx context.Context) error
	// Reload applies the configuration that can be applied live.
	Reload(ctx context.Context) error
	// Reinitialize begins to clone the data directory anew, with the old one set aside.
	Reinitialize(ctx context.Context) error
	// ServerVersion is server_version_num of the PostgreSQL; 0 when not known.
	ServerVersion() int
}

// Deps are what a Server answers from.
type Deps struct {
	Snapshots *replication.Feed[store.Snapshot]
	Board     *replication.Feed[replication.StatusBoard]
	Gate      *replication.Gate
	Clock     func() replication.Instant // CLOCK_BOOTTIME
	StoreErr  func() error               // why the newest read of the store gave nothing; nil when it did
	Records   Records
	Local     Local            // nil in a process without a PostgreSQL of its own
	Sessions  func() []Session // of this process's proxy; nil: none are listed
	Registry  *prometheus.Registry
	Log       *slog.Logger
}

// Server is the REST API of one process. It is safe for concurrent use.
type Server struct {
	cfg     Config
	deps    Deps
	handler http.Handler

	yield    sync.Once
	yielding chan struct{} // closed by Yield
}

// The bounds of a request.
const (
	maxBody        = 64 << 10
	maxHeader      = 16 << 10
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	shutdownWait   = 2 * time.Second
	bodyReadTimout = 10 * time.Second
)

// New checks the configuration and registers the metrics of the cluster; nothing listens before Run.
func New(cfg Config, deps Deps) (*Server, error) {
	switch {
	case cfg.Listen == "" || cfg.Cluster == "":
		return nil, errors.New("api: listen and cluster must be set")
	case cfg.DrainTimeout <= 0 || cfg.HandoffTimeout <= 0 || cfg.EndWait <= 0 || cfg.SwitchoverMaxLag <= 0:
		return nil, errors.New("api: the limits of a switchover must be positive")
	case cfg.CheckParameters == nil:
		return nil, errors.New("api: the check of parameters must be set")
	case cfg.Pprof && !loopbackListen(cfg.Listen):
		return nil, errors.New("api: profiles need a loopback listener")
	case deps.Snapshots == nil || deps.Board == nil || deps.Gate == nil || deps.Clock == nil || deps.StoreErr == nil ||
		deps.Records == nil || deps.Registry == nil || deps.Log == nil:
		return nil, errors.New("api: a dependency is nil")
	}
	s := &Server{cfg: cfg, deps: deps, yielding: make(chan struct{})}
	if err := deps.Registry.Register(collector{s}); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// Handler serves the API.
func (s *Server) Handler() http.Handler { return s.handler }

// Yield lets another process, which has the listener too, accept from now on. Open requests are answered.
func (s *Server) Yield() { s.yield.Do(func() { close(s.yielding) }) }

// Run serves on the listener until ctx ends, then gives open requests a short time. It returns nil after such an end.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.handler, TLSConfig: s.cfg.TLS, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyReadTimout, IdleTimeout: idleTimeout,
		WriteTimeout: s.cfg.HandoffTimeout + s.cfg.EndWait + 2*time.Second + bodyReadTimout,
		BaseContext:  func(net.Listener) context.Context { return ctx },
		ErrorLog:     slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { // ends with Shutdown or Close below
		if s.cfg.TLS != nil {
			served <- server.ServeTLS(listener, "", "")
			return
		}
		served <- server.Serve(listener)
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve the API: %w", err)
	case <-s.yielding:
		_ = server.Shutdown(ctx) // the end of ctx is dealt with below
		<-ctx.Done()
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		_ = server.Close() // what is still open is cut
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.patroniRoutes(mux)
	mux.HandleFunc("GET /v1/cluster", s.getCluster)
	mux.HandleFunc("GET /v1/history", s.getHistory)
	mux.HandleFunc("GET /v1/sessions", s.getSessions)
	mux.HandleFunc("GET /v1/config", s.getSettings)
	mux.HandleFunc("PATCH /v1/config", s.unsafe(s.patchSettings))
	mux.HandleFunc("POST /v1/switchover", s.unsafe(s.postSwitchover))
	mux.HandleFunc("POST /v1/failover", s.unsafe(s.postFailover))
	mux.HandleFunc("POST /v1/pause", s.unsafe(s.postPause(true)))
	mux.HandleFunc("POST /v1/resume", s.unsafe(s.postPause(false)))
	mux.HandleFunc("POST /v1/restart", s.unsafe(s.localVerb("restarted", Local.Restart)))
	mux.HandleFunc("POST /v1/reload", s.unsafe(s.localVerb("reloaded", Local.Reload)))
	mux.HandleFunc("POST /v1/reinitialize", s.unsafe(s.localVerb("being cloned anew", Local.Reinitialize)))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.deps.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /ui", serveDashboard)
	if s.cfg.Pprof {
		s.profiles(mux)
	}
	return mux
}

// Describe is the state of the cluster as this process knows it.
func (s *Server) Describe() Cluster {
	c := Describe(s.cfg.Cluster, s.deps.Snapshots.Load(), s.deps.Board.Load())
	// The record says that the door was opened; only a living lease says that it still is.
	c.Open = c.Open && s.deps.Gate.Allows(c.Epoch, s.deps.Clock())
	if err := s.deps.StoreErr(); err != nil {
		c.StoreError = err.Error()
	}
	return c
}

func (s *Server) getCluster(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.Describe())
}

func (s *Server) getHistory(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, events(s.deps.Snapshots.Load()))
}

// Problem is the body of an answer that is not a success.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	content, err := json.Marshal(body)
	if err != nil {
		panic("a body of the API does not marshal: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(content, '\n')) // a client that has gone is its own problem
}

func writeProblem(w http.ResponseWriter, status int, problem Problem) { writeJSON(w, status, problem) }

// readBody decodes a small JSON body; an empty one leaves into as it is.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err != nil && r.ContentLength != 0 {
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}
