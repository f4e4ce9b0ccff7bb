package api

import (
	"net/http"
	"net/http/pprof"
)

// profiles serves what net/http/pprof does, with the checks of a verb that changes something: a profile shows memory,
// and takes CPU.
func (s *Server) profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", s.unsafe(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", s.unsafe(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", s.unsafe(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", s.unsafe(pprof.Trace))
}
