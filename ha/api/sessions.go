package api

import "net/http"

// maxSessions bounds the answer of GET /v1/sessions.
const maxSessions = 10_000

// Session is one client of this process's proxy, in the body of GET /v1/sessions.
type Session struct {
	ID            uint32 `json:"id"` // what the client knows as its process id
	Client        string `json:"client"`
	User          string `json:"user"`
	Database      string `json:"database"`
	Application   string `json:"application_name"`
	State         string `json:"state"` // login, idle, waiting, active, closing
	InTransaction bool   `json:"in_transaction"`
	Held          bool   `json:"held"`   // waits for a primary while there is none
	Pinned        string `json:"pinned"` // why it keeps its server connection; empty when it does not
	Target        string `json:"target"`
	Consistency   string `json:"consistency"`
	Server        string `json:"server"` // the node that serves it now; empty when detached
	Turns         uint64 `json:"turns"`
	Retried       uint64 `json:"retried"` // turns that were run again elsewhere
	Failed        uint64 `json:"failed"`  // turns answered with an error of walgate's own
}

// getSessions lists the clients of this process's proxy, the first maxSessions of them.
func (s *Server) getSessions(w http.ResponseWriter, _ *http.Request) {
	sessions := []Session{}
	if s.deps.Sessions != nil {
		sessions = append(sessions, s.deps.Sessions()...)
	}
	writeJSON(w, http.StatusOK, sessions[:min(len(sessions), maxSessions)])
}
