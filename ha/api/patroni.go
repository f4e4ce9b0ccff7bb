package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// patroniVersion is what the bodies say for tools that compare versions: the Patroni release whose REST API
// (documentation, "Patroni REST API") these paths follow.
const patroniVersion = "4.0.0"

// patroniRoutes are the paths of Patroni's REST API. A path that is a health check answers GET, HEAD and OPTIONS with
// the same status code: 200 or 503.
func (s *Server) patroniRoutes(mux *http.ServeMux) {
	checks := map[string]func(facts, url.Values) bool{
		"/{$}": primaryCheck, "/primary": primaryCheck, "/read-write": primaryCheck, "/leader": primaryCheck, "/master": primaryCheck,
		"/replica":   replicaCheck,
		"/read-only": func(f facts, q url.Values) bool { return f.leads || replicaCheck(f, q) },
		"/sync":      syncCheck, "/synchronous": syncCheck,
		"/quorum":         func(f facts, q url.Values) bool { return f.standby() && f.status.SyncState == "quorum" },
		"/read-only-sync": func(f facts, q url.Values) bool { return f.leads || syncCheck(f, q) },
		"/async":          asyncCheck, "/asynchronous": asyncCheck,
		"/health":    func(f facts, _ url.Values) bool { return f.node && f.status.Reachable },
		"/liveness":  func(facts, url.Values) bool { return true }, // it answers
		"/readiness": readinessCheck,
		"/patroni":   func(facts, url.Values) bool { return true },
	}
	for path, check := range checks {
		handler := func(w http.ResponseWriter, r *http.Request) { s.healthCheck(w, r, check) }
		for _, method := range []string{"GET ", "OPTIONS "} { // GET serves HEAD too
			mux.HandleFunc(method+path, handler)
		}
	}
	mux.HandleFunc("GET /cluster", s.patroniCluster)
	mux.HandleFunc("GET /history", s.patroniHistory)
	mux.HandleFunc("GET /config", s.patroniConfig)
	mux.HandleFunc("PATCH /config", s.unsafe(s.patchPatroniConfig))
	mux.HandleFunc("POST /switchover", s.unsafe(s.patroniSwitchover(s.cfg.DrainTimeout)))
	mux.HandleFunc("POST /failover", s.unsafe(s.patroniSwitchover(failoverDrain)))
	mux.HandleFunc("POST /restart", s.unsafe(s.localVerb("restarted", Local.Restart)))
	mux.HandleFunc("POST /reload", s.unsafe(s.localVerb("reloaded", Local.Reload)))
	mux.HandleFunc("POST /reinitialize", s.unsafe(s.localVerb("being cloned anew", Local.Reinitialize)))
}

// facts are what the health checks judge.
type facts struct {
	node   bool // this process runs a PostgreSQL
	status replication.Status
	report ha.NodeReport
	tags   map[string]string
	leads  bool // it is the primary of the record, its door is open and its lease is alive
}

func (f facts) standby() bool {
	return f.node && f.status.Reachable && f.status.Role == replication.RoleStandby
}

func (s *Server) facts() facts {
	f := facts{node: s.cfg.Node != ""}
	if !f.node {
		return f
	}
	snapshot := s.deps.Snapshots.Load()
	f.status = s.deps.Board.Load().Status(s.cfg.Node)
	f.report, _ = snapshot.Node(s.cfg.Node)
	r := snapshot.Record
	if r == nil {
		return f
	}
	for _, m := range r.Members {
		if m.Name == s.cfg.Node {
			f.tags = m.Tags
		}
	}
	f.leads = r.Primary == s.cfg.Node && r.Open && f.status.Reachable && f.status.Role == replication.RolePrimary &&
		s.deps.Gate.Allows(r.Epoch, s.deps.Clock())
	return f
}

func primaryCheck(f facts, _ url.Values) bool { return f.leads }

func replicaCheck(f facts, query url.Values) bool {
	if !f.standby() || f.tags["noloadbalance"] == "true" || !withinLag(f.status, query.Get("lag")) {
		return false
	}
	if want := query.Get("replication_state"); want != "" && (want == StateStreaming) != f.status.Streaming {
		return false
	}
	for key, values := range query {
		if tag, ok := strings.CutPrefix(key, "tag_"); ok && (len(values) == 0 || f.tags[tag] != values[0]) {
			return false
		}
	}
	return true
}

func syncCheck(f facts, _ url.Values) bool {
	return f.standby() && (f.status.SyncState == "sync" || f.status.SyncState == "quorum")
}

func asyncCheck(f facts, query url.Values) bool { return replicaCheck(f, query) && !syncCheck(f, nil) }

func readinessCheck(f facts, query url.Values) bool {
	if !f.node {
		return true // a process without a PostgreSQL is ready when it answers
	}
	return f.leads || f.standby() && f.status.Streaming && withinLag(f.status, query.Get("lag"))
}

// withinLag compares replay lag with a limit in bytes, plain or with a unit as Patroni reads it (16kB, 64MB, 1GB).
func withinLag(status replication.Status, limit string) bool {
	if limit == "" {
		return true
	}
	factor := int64(1)
	for _, unit := range []struct {
		suffix string
		factor int64
	}{{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"tb", 1 << 40}} {
		if head, ok := strings.CutSuffix(strings.ToLower(limit), unit.suffix); ok {
			limit, factor = strings.TrimSpace(head), unit.factor
			break
		}
	}
	n, err := strconv.ParseInt(limit, 10, 64)
	return err == nil && status.LagBytes >= 0 && status.LagBytes <= n*factor
}

func (s *Server) healthCheck(w http.ResponseWriter, r *http.Request, check func(facts, url.Values) bool) {
	if r.URL.Path == "/" && r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		serveDashboard(w, r)
		return
	}
	f := s.facts()
	code := http.StatusServiceUnavailable
	if check(f, r.URL.Query()) {
		code = http.StatusOK
	}
	if r.Method == http.MethodOptions {
		w.WriteHeader(code)
		return
	}
	writeJSON(w, code, s.patroniStatus(f))
}

// patroniStatus is the body of GET / and of every health check.
func (s *Server) patroniStatus(f facts) map[string]any {
	snapshot := s.deps.Snapshots.Load()
	body := map[string]any{
		"state": patroniState(f), "role": patroniRole(f),
		"patroni": map[string]any{"version": patroniVersion, "scope": s.cfg.Cluster, "name": string(s.cfg.Node)},
		"walgate": map[string]any{"version": s.cfg.Version},
	}
	if age := s.deps.Clock().Sub(snapshot.SentAt); snapshot.SentAt != 0 {
		body["dcs_last_seen"] = time.Now().Add(-age).Unix()
	}
	if r := snapshot.Record; r != nil {
		body["database_system_identifier"] = r.SystemID
		if r.Paused {
			body["pause"] = true
		}
	}
	if len(f.tags) > 0 {
		body["tags"] = f.tags
	}
	if !f.node || !f.status.Reachable {
		return body
	}
	body["postmaster_start_time"] = time.UnixMicro(f.status.Incarnation).UTC().Format("2006-01-02 15:04:05.000000-07:00")
	body["timeline"] = f.status.Timeline
	if s.deps.Local != nil && s.deps.Local.ServerVersion() != 0 {
		body["server_version"] = s.deps.Local.ServerVersion()
	}
	if f.status.Role == replication.RolePrimary {
		body["xlog"] = map[string]any{"location": uint64(f.status.Received)}
		body["replication"] = s.standbysOf()
		return body
	}
	body["xlog"] = map[string]any{
		"received_location": uint64(f.status.Received), "replayed_location": uint64(f.status.Replayed),
		"replayed_timestamp": nil, "paused": false,
	}
	if f.status.Streaming {
		body["replication_state"] = StateStreaming
	}
	if f.status.SyncState == "quorum" {
		body["quorum_standby"] = true
	} else if f.status.SyncState == "sync" {
		body["sync_standby"] = true
	}
	return body
}

// standbysOf lists the members that stream, as the primary's pg_stat_replication would.
func (s *Server) standbysOf() []map[string]any {
	list := []map[string]any{}
	for _, m := range s.Describe().Members {
		if m.Role == replication.RoleStandby.String() && m.State == StateStreaming {
			list = append(list, map[string]any{
				"application_name": m.Name, "client_addr": m.Host, "state": m.State, "sync_state": m.SyncState,
			})
		}
	}
	return list
}

func patroniState(f facts) string {
	switch {
	case f.node && f.status.Reachable:
		return "running"
	case f.report.State != "" && f.report.State != StateStreaming && f.report.State != StateRunning:
		return f.report.State
	default:
		return "stopped"
	}
}

func patroniRole(f facts) string {
	switch f.status.Role {
	case replication.RolePrimary:
		return "primary"
	case replication.RoleStandby:
		return "replica"
	default:
		return "uninitialized"
	}
}

func (s *Server) patroniCluster(w http.ResponseWriter, _ *http.Request) {
	c := s.Describe()
	members := make([]map[string]any, 0, len(c.Members))
	for _, m := range c.Members {
		role := "replica"
		switch {
		case string(m.Name) == c.PrimaryName():
			role = "leader"
		case m.SyncState == "quorum":
			role = "quorum_standby"
		case m.SyncState == "sync":
			role = "sync_standby"
		}
		member := map[string]any{
			"name": m.Name, "role": role, "state": m.State, "api_url": m.API + "/patroni", "host": m.Host, "port": m.Port,
			"timeline": m.Timeline,
		}
		if role != "leader" {
			member["lag"] = "unknown"
			if m.LagBytes != nil {
				member["lag"] = *m.LagBytes
			}
		}
		if len(m.Tags) > 0 {
			member["tags"] = m.Tags
		}
		members = append(members, member)
	}
	body := map[string]any{"members": members, "scope": s.cfg.Cluster}
	if c.Paused {
		body["pause"] = true
	}
	writeJSON(w, http.StatusOK, body)
}

// patroniHistory lists [timeline that ended, position, reason, time, new primary].
func (s *Server) patroniHistory(w http.ResponseWriter, _ *http.Request) {
	list := [][]any{}
	for _, e := range s.deps.Snapshots.Load().Ledger {
		if e.Timeline > 1 {
			list = append(list, []any{e.Timeline - 1, uint64(e.ForkLSN), e.Reason, e.Time.Format(time.RFC3339Nano), e.Winner})
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) patroniConfig(w http.ResponseWriter, _ *http.Request) {
	record := s.deps.Snapshots.Load().Record
	if record == nil {
		writeProblem(w, http.StatusServiceUnavailable, Problem{Error: "the cluster has no record yet"})
		return
	}
	writeJSON(w, http.StatusOK, patroniConfig(*record))
}

func (s *Server) patchPatroniConfig(w http.ResponseWriter, r *http.Request) {
	body := map[string]any{}
	if err := readBody(w, r, &body); err != nil {
		writeProblem(w, http.StatusBadRequest, Problem{Error: err.Error()})
		return
	}
	patch, pause, err := fromPatroni(body)
	if err != nil {
		writeProblem(w, http.StatusBadRequest, Problem{Error: err.Error()})
		return
	}
	var after ha.Record
	err = s.change(r.Context(), func(record *ha.Record) (bool, error) {
		if err := s.apply(patch, record); err != nil {
			return false, err
		}
		if pause != nil {
			record.Paused = *pause
		}
		after = *record
		return true, nil
	})
	if err != nil {
		s.writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, patroniConfig(after))
}

// patroniSwitchover takes Patroni's body and answers in its plain text.
func (s *Server) patroniSwitchover(drain time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Leader      string `json:"leader"`
			Candidate   string `json:"candidate"`
			Member      string `json:"member"` // older name of candidate
			ScheduledAt string `json:"scheduled_at"`
		}
		if err := readBody(w, r, &body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if body.ScheduledAt != "" {
			http.Error(w, "scheduled switchovers are not supported", http.StatusBadRequest)
			return
		}
		if body.Candidate == "" {
			body.Candidate = body.Member
		}
		result, err := s.switchover(r.Context(), SwitchoverRequest{From: body.Leader, To: body.Candidate}, drain)
		if err != nil {
			s.writeError(w, err)
			return
		}
		w.WriteHeader(http.StatusOK)
		_, _ = fmt.Fprintf(w, "Successfully switched over to %q", result.To) // a client that has gone is its own problem
	}
}
