package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/api"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// world is a cluster of feeds behind an API.
type world struct {
	mu        sync.Mutex
	record    *ha.Record
	rev       int64
	conflicts int // how many PutRecord calls fail first
	onPut     func(ha.Record)

	snapshots replication.Feed[store.Snapshot]
	board     replication.Feed[replication.StatusBoard]
	gate      replication.Gate
	storeErr  error
	local     api.Local
}

const now = replication.Instant(100 * time.Second)

func standby(name replication.NodeID, lag int64) replication.Status {
	return replication.Status{
		Node: name, Role: replication.RoleStandby, Reachable: true, Timeline: 3, Received: 0x3000148, Replayed: 0x3000148,
		Streaming: true, Upstream: "127.0.0.1:5402", LagBytes: lag, Lag: time.Duration(lag) * time.Millisecond, SyncState: "quorum",
	}
}

func newWorld() *world {
	w := &world{rev: 7}
	w.record = &ha.Record{
		Version: 41, Cluster: "demo", SystemID: "77", Epoch: 3, Primary: "node2", Timeline: 3, Open: true,
		Members: []ha.Member{
			{Name: "node1", Host: "127.0.0.1", Port: 5401, API: "http://127.0.0.1:6441"},
			{Name: "node2", Host: "127.0.0.1", Port: 5402, API: "http://127.0.0.1:6442"},
			{Name: "node3", Host: "127.0.0.1", Port: 5403, API: "http://127.0.0.1:6443", Tags: map[string]string{"zone": "b"}},
		},
		Sync: ha.Sync{Mode: ha.SyncQuorum, Quorum: 1, Voters: []replication.NodeID{"node1", "node3"}},
		Settings: ha.Settings{TTL: 5 * time.Second, MaximumLag: 1 << 20, OnCrash: "auto", ColdStartWait: time.Minute,
			Parameters: map[string]string{"work_mem": "4MB", "jit": "off"}},
		Last: &ha.Failover{Epoch: 3, From: "node1", To: "node2", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reason: "crash", PauseMS: 212},
	}
	w.board.Publish(replication.StatusBoard{Nodes: map[replication.NodeID]replication.Status{
		"node1": standby("node1", 0),
		"node2": {Node: "node2", Role: replication.RolePrimary, Reachable: true, Timeline: 3, Received: 0x3000148, Replayed: 0x3000148, Incarnation: 1_700_000_000_000_000},
		"node3": standby("node3", 10),
	}})
	w.gate.Set(replication.Grant{Epoch: 3, Deadline: now.Add(time.Second)})
	w.publish()
	return w
}

// publish shows the record as a follower of the store would.
func (w *world) publish() {
	w.mu.Lock()
	snapshot := store.Snapshot{SentAt: now, Revision: w.rev, RecordRev: w.rev}
	if w.record != nil {
		record := *w.record
		snapshot.Record = &record
	}
	w.mu.Unlock()
	for _, name := range []replication.NodeID{"node1", "node2", "node3"} {
		snapshot.Nodes = append(snapshot.Nodes, ha.NodeReport{Name: name, State: "streaming", Role: "standby"})
	}
	snapshot.Ledger = []ha.LedgerEntry{{Epoch: 1, Timeline: 1, Winner: "node1"}, {Epoch: 3, Timeline: 3, ForkLSN: 0x3000000, Winner: "node2", From: "node1", Reason: "crash"}}
	snapshot.Proxies = []ha.ProxyReport{{ID: "p1", Addr: "127.0.0.1:6432", Epoch: 3, Sessions: 12}}
	w.snapshots.Publish(snapshot)
}

func (w *world) Read(context.Context) (store.Snapshot, error) {
	w.publish()
	return w.snapshots.Load(), w.storeErr
}

func (w *world) PutRecord(_ context.Context, prev int64, record ha.Record) (int64, error) {
	w.mu.Lock()
	if w.conflicts > 0 {
		w.conflicts--
		w.rev++
	}
	if prev != w.rev {
		w.mu.Unlock()
		return 0, store.ErrConflict
	}
	w.rev++
	w.record = &record
	onPut, rev := w.onPut, w.rev
	w.mu.Unlock()
	if onPut != nil {
		onPut(record)
	}
	w.publish()
	return rev, nil
}

func (w *world) newest() ha.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.record
}

func config(node replication.NodeID) api.Config {
	return api.Config{
		Cluster: "demo", Node: node, Listen: "127.0.0.1:0", Version: "test", MinTTL: 4450 * time.Millisecond,
		SwitchoverMaxLag: 1 << 20, CheckParameters: func(p map[string]string) error {
			if p["fsync"] != "" {
				return errors.New("fsync: not here")
			}
			return nil
		},
		DrainTimeout: time.Second, HandoffTimeout: 2 * time.Second, EndWait: 20 * time.Second,
	}
}

func (w *world) serve(t *testing.T, cfg api.Config) *httptest.Server {
	t.Helper()
	server, err := api.New(cfg, api.Deps{
		Snapshots: &w.snapshots, Board: &w.board, Gate: &w.gate, Clock: func() replication.Instant { return now },
		StoreErr: func() error { return w.storeErr }, Records: w, Local: w.local, Registry: prometheus.NewRegistry(),
		Sessions: func() []api.Session {
			return []api.Session{{ID: 7, User: "app", Pinned: "temporary table", Server: "node1"}}
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(server.Handler())
	t.Cleanup(s.Close)
	return s
}

func call(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestClusterIsTheContract(t *testing.T) {
	w := newWorld()
	board := w.board.Load()
	board.Nodes["node3"] = replication.Status{Node: "node3", Role: replication.RoleStandby, LagBytes: -1, Lag: -1}
	w.board.Publish(board)
	_, got := call(t, "GET", w.serve(t, config("node1")).URL+"/v1/cluster", "")
	want := `{"cluster":"demo","system_id":"77","epoch":3,"version":41,"primary":"node2","open":true,"paused":false,"handoff":null,
"sync":{"mode":"quorum","quorum":1,"voters":["node1","node3"]},
"members":[
{"name":"node1","role":"standby","state":"streaming","host":"127.0.0.1","port":5401,"api":"http://127.0.0.1:6441","timeline":3,"received_lsn":"0/3000148","replayed_lsn":"0/3000148","lag_bytes":0,"lag_ms":0,"sync_state":"quorum","upstream":"node2","tags":{}},
{"name":"node2","role":"primary","state":"running","host":"127.0.0.1","port":5402,"api":"http://127.0.0.1:6442","timeline":3,"received_lsn":"0/3000148","replayed_lsn":"0/3000148","lag_bytes":0,"lag_ms":0,"sync_state":"","upstream":"","tags":{}},
{"name":"node3","role":"standby","state":"starting","host":"127.0.0.1","port":5403,"api":"http://127.0.0.1:6443","timeline":0,"received_lsn":null,"replayed_lsn":null,"lag_bytes":null,"lag_ms":null,"sync_state":"async","upstream":"","tags":{"zone":"b"}}],
"proxies":[{"id":"p1","addr":"127.0.0.1:6432","epoch":3,"sessions":12,"held":0}],
"last_failover":{"epoch":3,"from":"node1","to":"node2","at":"2026-01-02T03:04:05Z","reason":"crash","pause_ms":212}}`
	if diff := cmp.Diff(strings.ReplaceAll(want, "\n", ""), strings.TrimSpace(got)); diff != "" {
		t.Errorf("GET /v1/cluster (-want +got):\n%s", diff)
	}
}

func TestMemberState(t *testing.T) {
	cases := map[string]struct {
		status replication.Status
		report *ha.NodeReport
		want   string
	}{
		"primary":               {status: replication.Status{Role: replication.RolePrimary, Reachable: true}, want: "running"},
		"streams":               {status: standby("node1", 0), report: &ha.NodeReport{State: "starting"}, want: "streaming"},
		"does not stream":       {status: replication.Status{Role: replication.RoleStandby, Reachable: true}, report: &ha.NodeReport{State: "streaming"}, want: "starting"},
		"clones":                {report: &ha.NodeReport{State: "cloning"}, want: "cloning"},
		"stopped":               {status: replication.Status{Role: replication.RolePrimary}, report: &ha.NodeReport{State: "stopped"}, want: "stopped"},
		"report is out of date": {status: replication.Status{Role: replication.RoleStandby}, report: &ha.NodeReport{State: "streaming"}, want: "starting"},
		"gone":                  {status: replication.Status{Role: replication.RoleStandby, Streaming: true}, want: "unreachable"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := store.Snapshot{Record: &ha.Record{Members: []ha.Member{{Name: "node1"}}}}
			if c.report != nil {
				c.report.Name = "node1"
				s.Nodes = []ha.NodeReport{*c.report}
			}
			c.status.Node = "node1"
			got := api.Describe("x", s, replication.StatusBoard{Nodes: map[replication.NodeID]replication.Status{"node1": c.status}})
			if got.Members[0].State != c.want {
				t.Errorf("state of %+v with %+v = %q, want %q", c.status, c.report, got.Members[0].State, c.want)
			}
		})
	}
}

func TestEmptyClusterListsThoseWhoReport(t *testing.T) {
	got := api.Describe("demo", store.Snapshot{Nodes: []ha.NodeReport{{Name: "node1", State: "initdb", Why: "makes the cluster"}}}, replication.StatusBoard{})
	if got.Primary != nil || len(got.Members) != 1 || got.Members[0].State != "initdb" || got.LastFailover != nil {
		t.Errorf("Describe of a cluster without a record = %+v", got)
	}
	content, _ := json.Marshal(got)
	for _, want := range []string{`"primary":null`, `"voters":[]`, `"proxies":[]`, `"last_failover":null`} {
		if !strings.Contains(string(content), want) {
			t.Errorf("%s is missing in %s", want, content)
		}
	}
}

func TestHealthChecks(t *testing.T) {
	cases := []struct {
		node replication.NodeID
		path string
		want int
	}{
		{"node2", "/", 200}, {"node2", "/primary", 200}, {"node2", "/read-write", 200}, {"node2", "/leader", 200},
		{"node2", "/replica", 503}, {"node2", "/read-only", 200}, {"node2", "/sync", 503}, {"node2", "/read-only-sync", 200},
		{"node2", "/health", 200}, {"node2", "/liveness", 200}, {"node2", "/readiness", 200}, {"node2", "/async", 503},
		{"node3", "/", 503}, {"node3", "/primary", 503}, {"node3", "/replica", 200}, {"node3", "/read-only", 200},
		{"node3", "/replica?lag=9", 503}, {"node3", "/replica?lag=10", 200}, {"node3", "/replica?lag=16kB", 200},
		{"node3", "/replica?lag=nonsense", 503}, {"node3", "/replica?tag_zone=b", 200}, {"node3", "/replica?tag_zone=c", 503},
		{"node3", "/replica?replication_state=streaming", 200}, {"node3", "/sync", 200}, {"node3", "/quorum", 200},
		{"node3", "/synchronous", 200}, {"node3", "/async", 503}, {"node3", "/readiness", 200}, {"node3", "/patroni", 200},
		{"", "/primary", 503}, {"", "/replica", 503}, {"", "/health", 503}, {"", "/liveness", 200}, {"", "/readiness", 200},
	}
	w := newWorld()
	servers := map[replication.NodeID]*httptest.Server{}
	for _, name := range []replication.NodeID{"", "node2", "node3"} {
		servers[name] = w.serve(t, config(name))
	}
	for _, c := range cases {
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			status, body := call(t, method, servers[c.node].URL+c.path, "")
			if status != c.want {
				t.Errorf("%s %s of %q = %d, want %d", method, c.path, c.node, status, c.want)
			}
			if method != "GET" && body != "" {
				t.Errorf("%s %s has the body %q", method, c.path, body)
			}
		}
	}
}

func TestPrimaryCheckAsksTheLease(t *testing.T) {
	w := newWorld()
	w.gate.Set(replication.Grant{Epoch: 3, Deadline: now - 1})
	server := w.serve(t, config("node2"))
	if status, _ := call(t, "GET", server.URL+"/primary", ""); status != 503 {
		t.Errorf("/primary with an expired lease = %d, want 503", status)
	}
	if _, body := call(t, "GET", server.URL+"/v1/cluster", ""); !strings.Contains(body, `"open":false`) {
		t.Errorf("with an expired lease the cluster is open: %s", body)
	}
	if status, _ := call(t, "GET", server.URL+"/health", ""); status != 200 {
		t.Errorf("/health with an expired lease = %d, want 200", status)
	}
}

func TestPatroniBodies(t *testing.T) {
	w := newWorld()
	_, body := call(t, "GET", w.serve(t, config("node2")).URL+"/patroni", "")
	for _, want := range []string{`"role":"primary"`, `"state":"running"`, `"xlog":{"location":50331976}`, `"timeline":3`,
		`"application_name":"node1"`, `"scope":"demo"`, `"name":"node2"`, `"dcs_last_seen":`, `"postmaster_start_time":"2023-11-14 22:13:20.000000+00:00"`} {
		if !strings.Contains(body, want) {
			t.Errorf("primary: %s is missing in %s", want, body)
		}
	}
	server := w.serve(t, config("node3"))
	_, body = call(t, "GET", server.URL+"/patroni", "")
	for _, want := range []string{`"role":"replica"`, `"received_location":50331976`, `"replication_state":"streaming"`, `"quorum_standby":true`, `"tags":{"zone":"b"}`} {
		if !strings.Contains(body, want) {
			t.Errorf("standby: %s is missing in %s", want, body)
		}
	}
	_, body = call(t, "GET", server.URL+"/cluster", "")
	for _, want := range []string{`"role":"leader"`, `"role":"quorum_standby"`, `"api_url":"http://127.0.0.1:6441/patroni"`, `"lag":10`} {
		if !strings.Contains(body, want) {
			t.Errorf("/cluster: %s is missing in %s", want, body)
		}
	}
	if _, body = call(t, "GET", server.URL+"/history", ""); !strings.HasPrefix(body, `[[2,50331648,"crash",`) {
		t.Errorf("/history = %s", body)
	}
	if _, body = call(t, "GET", server.URL+"/config", ""); !strings.Contains(body, `"ttl":5`) || !strings.Contains(body, `"work_mem":"4MB"`) {
		t.Errorf("/config = %s", body)
	}
	if _, body = call(t, "GET", server.URL+"/metrics", ""); !strings.Contains(body, `walgate_member_replay_lag_bytes{member="node3"} 10`) || !strings.Contains(body, "walgate_cluster_epoch 3") {
		t.Errorf("/metrics = %s", body)
	}
	if status, body := call(t, "GET", server.URL+"/", "", "Accept", "text/html"); status != 200 || !strings.Contains(body, "<!doctype html>") {
		t.Errorf("/ for a browser = %d %.60s", status, body)
	}
}

func TestAccessToUnsafeVerbs(t *testing.T) {
	cases := map[string]struct {
		listen, token string
		header        []string
		want          int
	}{
		"loopback":                  {listen: "127.0.0.1:8008", want: 200},
		"loopback, same origin":     {listen: "127.0.0.1:8008", header: []string{"Origin", "self"}, want: 200},
		"loopback, foreign page":    {listen: "127.0.0.1:8008", header: []string{"Origin", "http://evil.example"}, want: 403},
		"loopback, no origin sent":  {listen: "127.0.0.1:8008", header: []string{"Sec-Fetch-Site", "cross-site"}, want: 403},
		"loopback, rebound name":    {listen: "127.0.0.1:8008", header: []string{"Host", "evil.example"}, want: 403},
		"loopback with token":       {listen: "127.0.0.1:8008", token: "t", want: 401},
		"open without token":        {listen: "0.0.0.0:8008", want: 403},
		"open to all names":         {listen: ":8008", want: 403},
		"open, wrong token":         {listen: "0.0.0.0:8008", token: "t", header: []string{"Authorization", "Bearer x"}, want: 401},
		"open, token, wrong scheme": {listen: "0.0.0.0:8008", token: "t", header: []string{"Authorization", "t"}, want: 401},
		"open, token":               {listen: "0.0.0.0:8008", token: "t", header: []string{"Authorization", "Bearer t"}, want: 200},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := config("node1")
			cfg.Listen, cfg.Token = c.listen, c.token
			server := newWorld().serve(t, cfg)
			request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/v1/pause", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i+1 < len(c.header); i += 2 {
				switch value := c.header[i+1]; {
				case c.header[i] == "Host":
					request.Host = value
				case value == "self":
					request.Header.Set(c.header[i], server.URL)
				default:
					request.Header.Set(c.header[i], value)
				}
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != c.want {
				t.Errorf("POST /v1/pause = %d, want %d", response.StatusCode, c.want)
			}
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	w := newWorld()
	w.conflicts = 2 // other writers come first; the verb reads again
	server := w.serve(t, config("node1"))
	if status, body := call(t, "POST", server.URL+"/v1/pause", ""); status != 200 || !w.newest().Paused || w.newest().Version != 42 {
		t.Fatalf("pause = %d %s, record %+v", status, body, w.newest())
	}
	if status, _ := call(t, "POST", server.URL+"/v1/resume", ""); status != 200 || w.newest().Paused {
		t.Fatalf("resume = %d, record %+v", status, w.newest())
	}
	w.conflicts = 100
	if status, _ := call(t, "POST", server.URL+"/v1/pause", ""); status != 409 {
		t.Errorf("pause against endless conflicts = %d, want 409", status)
	}
}

func TestSettings(t *testing.T) {
	w := newWorld()
	server := w.serve(t, config("node1"))
	status, body := call(t, "PATCH", server.URL+"/v1/config", `{"ttl":"10s","sync":"strict","parameters":{"work_mem":null,"jit":"on","wal_level":"logical"}}`)
	if status != 200 {
		t.Fatalf("PATCH = %d %s", status, body)
	}
	got := w.newest()
	if diff := cmp.Diff(map[string]string{"jit": "on", "wal_level": "logical"}, got.Settings.Parameters); diff != "" || got.Settings.TTL != 10*time.Second || got.Sync.Mode != ha.SyncStrict || len(got.Sync.Voters) != 2 {
		t.Errorf("record after PATCH: %+v, parameters %s", got, diff)
	}
	if status, body = call(t, "PATCH", server.URL+"/config", `{"ttl":20,"pause":true,"postgresql":{"parameters":{"jit":false,"max_connections":200}}}`); status != 200 {
		t.Fatalf("PATCH /config = %d %s", status, body)
	}
	if got = w.newest(); !got.Paused || got.Settings.TTL != 20*time.Second || got.Settings.Parameters["jit"] != "off" || got.Settings.Parameters["max_connections"] != "200" {
		t.Errorf("record after Patroni's PATCH: %+v", got)
	}
	for body, want := range map[string]string{
		`{"ttl":"3s"}`: "allowed: a duration of at least 4.45s", `{"on_crash":"pray"}`: "allowed: failover, restart, auto", `{"sync":"maybe"}`: "allowed: off, quorum, strict",
		`{"parameters":{"fsync":"off"}}`: "fsync: not here",
		`{"tttl":"3s"}`:                  "unknown field", `{"maximum_lag":-1}`: "allowed: 0 or more", `{`: "read body",
		`{"parameters":{"a":"` + strings.Repeat("x", 70000) + `"}}`: "too large",
	} {
		if status, answer := call(t, "PATCH", server.URL+"/v1/config", body); status != 400 || !strings.Contains(answer, want) {
			t.Errorf("PATCH %.40s = %d %.200s, want 400 and %q", body, status, answer, want)
		}
	}
	if status, answer := call(t, "PATCH", server.URL+"/config", `{"loop_wait":1}`); status != 400 || !strings.Contains(answer, "walgate has no such setting") {
		t.Errorf("PATCH /config with loop_wait = %d %s", status, answer)
	}
}

func TestSwitchoverRefuses(t *testing.T) {
	cases := map[string]struct {
		request string
		change  func(*world, replication.StatusBoard)
		status  int
		want    string
	}{
		"paused":          {change: func(w *world, _ replication.StatusBoard) { w.record.Paused = true }, status: 412, want: "paused"},
		"under way":       {change: func(w *world, _ replication.StatusBoard) { w.record.Handoff = &ha.Handoff{From: "node2", To: "node1"} }, status: 409, want: "under way"},
		"no record":       {change: func(w *world, _ replication.StatusBoard) { w.record = nil }, status: 412, want: "no record"},
		"door shut":       {change: func(w *world, _ replication.StatusBoard) { w.record.Open = false }, status: 412, want: "no primary that takes writes"},
		"not the primary": {request: `{"from":"node1"}`, status: 412, want: "node1 is not the primary, node2 is"},
		"to the primary":  {request: `{"to":"node2"}`, status: 412, want: "it is the primary"},
		"to a stranger":   {request: `{"to":"node9"}`, status: 404, want: "no member"},
		"nofailover": {request: `{"to":"node3"}`, change: func(w *world, _ replication.StatusBoard) {
			w.record.Members[2].Tags = map[string]string{"nofailover": "true"}
		}, status: 412, want: "nofailover"},
		"does not stream": {request: `{"to":"node3"}`, change: func(_ *world, b replication.StatusBoard) {
			b.Nodes["node3"] = replication.Status{Role: replication.RoleStandby, Reachable: true}
		}, status: 412, want: "does not stream"},
		"behind": {request: `{"to":"node3"}`, change: func(_ *world, b replication.StatusBoard) { b.Nodes["node3"] = standby("node3", 2<<20) }, status: 412, want: "2097152 bytes behind"},
		"nobody": {change: func(_ *world, b replication.StatusBoard) {
			delete(b.Nodes, "node1")
			delete(b.Nodes, "node3")
		}, status: 412, want: "no member can take over"},
		"bad body": {request: `{"two":"node3"}`, status: 400, want: "unknown field"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			if c.change != nil {
				c.change(w, w.board.Load())
			}
			status, body := call(t, "POST", w.serve(t, config("node1")).URL+"/v1/switchover", c.request)
			if status != c.status || !strings.Contains(body, c.want) {
				t.Errorf("switchover %s = %d %s, want %d and %q", c.request, status, body, c.status, c.want)
			}
			if w.rev != 7 {
				t.Errorf("a refused switchover changed the record")
			}
		})
	}
}

func TestSwitchoverReportsTheEnd(t *testing.T) {
	w := newWorld()
	w.onPut = func(asked ha.Record) {
		if asked.Handoff == nil || asked.Handoff.To != "node1" || asked.Handoff.Phase != ha.HandoffPrepare || asked.Version != 42 {
			t.Errorf("handoff asked for: %+v", asked.Handoff)
		}
		go func() { // the agents, played; ends by itself
			w.mu.Lock()
			after := *w.record
			after.Version, after.Epoch, after.Primary, after.Handoff, after.Timeline = 45, 4, "node1", nil, 4
			after.Last = &ha.Failover{Epoch: 4, From: "node2", To: "node1", PauseMS: 180}
			w.record = &after
			w.mu.Unlock()
			w.publish()
			old := standby("node2", 0)
			old.Timeline = 4
			third := standby("node3", 0)
			third.Timeline = 4
			w.board.Publish(replication.StatusBoard{Nodes: map[replication.NodeID]replication.Status{
				"node1": {Role: replication.RolePrimary, Reachable: true, Timeline: 4}, "node2": old, "node3": third,
			}})
		}()
	}
	client, err := api.NewClient(w.serve(t, config("node1")).URL, "")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got, err := client.Switchover(t.Context(), api.SwitchoverRequest{})
	if err != nil || got.To != "node1" || got.From != "node2" || got.Epoch != 4 || got.PauseMS != 180 || got.Warning != "" {
		t.Errorf("switchover = %+v, %v", got, err)
	}
}

func TestSwitchoverCalledOff(t *testing.T) {
	w := newWorld()
	w.onPut = func(ha.Record) {
		w.mu.Lock()
		after := *w.record
		after.Version, after.Handoff = 43, nil
		w.record = &after
		w.mu.Unlock()
	}
	client, err := api.NewClient(w.serve(t, config("node1")).URL, "")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Switchover(t.Context(), api.SwitchoverRequest{To: "node3"})
	var refused *api.RefusedError
	if !errors.As(err, &refused) || refused.Status != 409 || !strings.Contains(err.Error(), "called off") {
		t.Errorf("switchover = %v, want 409 called off", err)
	}
}

type fakeLocal struct{ err error }

func (f fakeLocal) Restart(context.Context) error      { return f.err }
func (f fakeLocal) Reload(context.Context) error       { return f.err }
func (f fakeLocal) Reinitialize(context.Context) error { return f.err }
func (f fakeLocal) ServerVersion() int                 { return 150004 }

func TestLocalVerbs(t *testing.T) {
	w := newWorld()
	sidecar := w.serve(t, config(""))
	w.local = fakeLocal{}
	node := w.serve(t, config("node1"))
	w.local = fakeLocal{err: api.ErrRefused}
	refusing := w.serve(t, config("node1"))
	for _, c := range []struct {
		server *httptest.Server
		want   int
	}{{sidecar, 501}, {node, 200}, {refusing, 412}} {
		for _, path := range []string{"/restart", "/v1/reload", "/v1/reinitialize"} {
			if status, body := call(t, "POST", c.server.URL+path, ""); status != c.want {
				t.Errorf("POST %s = %d %s, want %d", path, status, body, c.want)
			}
		}
	}
	if _, body := call(t, "GET", node.URL+"/patroni", ""); !strings.Contains(body, `"server_version":150004`) {
		t.Errorf("no server_version in %s", body)
	}
}

func TestClientNamesWhatIsWrong(t *testing.T) {
	if _, err := api.NewClient("127.0.0.1:8008", ""); err == nil {
		t.Error("an address without a scheme was taken")
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	url := gone.URL
	foreign, err := api.NewClient(url, "")
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	var refused *api.RefusedError
	if _, err := foreign.Cluster(t.Context()); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("a foreign server: %v", err)
	}
	gone.Close()
	if _, err := foreign.Cluster(t.Context()); !errors.Is(err, api.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	w := newWorld()
	server, err := api.New(config("node1"), api.Deps{
		Snapshots: &w.snapshots, Board: &w.board, Gate: &w.gate, Clock: func() replication.Instant { return now },
		StoreErr: func() error { return nil }, Records: w, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, listener) }() // ends with cancel
	client, err := api.NewClient("http://"+listener.Addr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.Cluster(t.Context()); err != nil || got.PrimaryName() != "node2" {
		t.Errorf("Cluster = %+v, %v", got, err)
	}
	client.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestSessions(t *testing.T) {
	s := newWorld().serve(t, config("node1"))
	response, err := http.Get(s.URL + "/v1/sessions")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var got []api.Session
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil || len(got) != 1 || got[0].Pinned != "temporary table" {
		t.Errorf("GET /v1/sessions: %+v, %v; want the one pinned session", got, err)
	}
}
