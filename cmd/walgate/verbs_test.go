package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walgate/walgate/ha/api"
)

const testLimit = 30 * time.Second

const clusterBody = `{"cluster":"demo","epoch":3,"version":41,"primary":"node2","open":true,"paused":false,"handoff":null,
"sync":{"mode":"quorum","quorum":1,"voters":["node1","node3"]},
"members":[
{"name":"node1","role":"standby","state":"streaming","host":"127.0.0.1","port":5401,"api":"API","timeline":3,"replayed_lsn":"0/3000148","lag_bytes":0,"lag_ms":2,"sync_state":"quorum","tags":{}},
{"name":"node2","role":"primary","state":"running","host":"127.0.0.1","port":5402,"api":"API","timeline":3,"replayed_lsn":"0/3000148","lag_bytes":0,"lag_ms":0,"tags":{}},
{"name":"node3","role":"unknown","state":"cloning","host":"127.0.0.1","port":5403,"api":"API","timeline":0,"replayed_lsn":null,"lag_bytes":null,"lag_ms":null,"why":"copied 3 of 9 MB","tags":{}}],
"proxies":[{"id":"p1","addr":"127.0.0.1:6432","epoch":3,"sessions":12,"held":0}],
"last_failover":{"epoch":3,"from":"node1","to":"node2","at":"2026-01-02T03:04:05Z","reason":"crash","pause_ms":212}}`

// fakeAPI answers every verb and keeps what was asked.
type fakeAPI struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{}
	answers := map[string]string{
		"GET /v1/history":     `[{"epoch":2,"from":"node1","to":"node2","timeline":2,"fork_lsn":"0/3000000","at":"2026-01-02T03:04:05Z","reason":"crash"}]`,
		"GET /v1/config":      `{"ttl":"5s","maximum_lag":1048576,"on_crash":"auto","cold_start_wait":"1m0s","sync":"quorum","parameters":{"jit":"off"}}`,
		"PATCH /v1/config":    `{"ttl":"10s","parameters":{}}`,
		"POST /v1/switchover": `{"from":"node2","to":"node1","epoch":4,"took":1500000000,"pause_ms":180}`,
		"POST /v1/failover":   `{"from":"node2","to":"node1","epoch":4,"took":1500000000,"pause_ms":180,"warning":"node2 does not stream yet"}`,
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+string(body)))
		f.mu.Unlock()
		switch answer, ok := answers[r.Method+" "+r.URL.Path]; {
		case r.URL.Path == "/v1/cluster":
			_, _ = w.Write([]byte(strings.ReplaceAll(clusterBody, "API", f.URL)))
		case ok:
			_, _ = w.Write([]byte(answer))
		default:
			_, _ = w.Write([]byte(`{"done":"` + strings.TrimPrefix(r.URL.Path, "/v1/") + `"}`))
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAPI) changes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, request := range f.asked {
		if !strings.HasPrefix(request, "GET ") {
			list = append(list, request)
		}
	}
	return list
}

func TestVerbs(t *testing.T) {
	cases := map[string]struct {
		args  []string
		says  []string
		asked []string // requests that change something
	}{
		"status": {args: []string{"status"}, says: []string{
			"cluster demo   primary node2   epoch 3   sync quorum (any 1 of node1, node3)",
			"node1   standby   streaming   quorum   3          0/3000148   0 B, 2 ms   127.0.0.1:5401",
			"node3   unknown   cloning     -        -          -           unknown", "node3: copied 3 of 9 MB",
			"last change of primary: node1 to node2 at 2026-01-02T03:04:05Z, epoch 3, 212 ms without a primary: crash",
		}},
		"history":     {args: []string{"history"}, says: []string{"2       2026-01-02T03:04:05Z   node1   node2   2          0/3000000   crash"}},
		"config show": {args: []string{"config", "show"}, says: []string{`"ttl": "5s"`}},
		"config set": {args: []string{"config", "set", "ttl=10s", "parameters.work_mem=8MB", "parameters.jit="}, says: []string{`"ttl": "10s"`},
			asked: []string{`PATCH /v1/config {"ttl":"10s","parameters":{"jit":null,"work_mem":"8MB"}}`}},
		"switchover": {args: []string{"switchover", "--yes", "--to", "node1"}, says: []string{"node1 is the primary (epoch 4), 180 ms without one; done in 1.5s", "node2 streams from it"},
			asked: []string{`POST /v1/switchover {"to":"node1"}`}},
		"failover": {args: []string{"failover", "--yes"}, says: []string{"warning: node2 does not stream yet"}, asked: []string{"POST /v1/failover {}"}},
		"pause":    {args: []string{"pause", "--yes"}, says: []string{"the cluster is pause"}, asked: []string{"POST /v1/pause"}},
		"resume":   {args: []string{"resume"}, asked: []string{"POST /v1/resume"}},
		"restart":  {args: []string{"restart", "node1", "--yes"}, says: []string{"node1 is restart"}, asked: []string{"POST /v1/restart"}},
		"reload":   {args: []string{"reload", "node3"}, asked: []string{"POST /v1/reload"}},
		"reinit":   {args: []string{"reinit", "node3", "--yes"}, asked: []string{"POST /v1/reinitialize"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := newFakeAPI(t)
			t.Setenv("WALGATE_API", server.URL)
			out, err := run(t, c.args...)
			if err != nil {
				t.Fatalf("walgate %v: %v", c.args, err)
			}
			for _, want := range c.says {
				if !strings.Contains(out, want) {
					t.Errorf("walgate %v says\n%s\nwant %q in it", c.args, out, want)
				}
			}
			if diff := cmp.Diff(c.asked, server.changes()); diff != "" {
				t.Errorf("walgate %v asked (-want +got):\n%s", c.args, diff)
			}
		})
	}
}

func TestStatusForPrograms(t *testing.T) {
	server := newFakeAPI(t)
	out, err := run(t, "status", "-o", "json", "--api", server.URL)
	if err != nil {
		t.Fatal(err)
	}
	var got api.Cluster
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.PrimaryName() != "node2" || len(got.Members) != 3 {
		t.Errorf("status -o json = %s, %v", out, err)
	}
}

func TestNothingHappensWithoutAYes(t *testing.T) {
	for _, verb := range [][]string{{"switchover"}, {"failover"}, {"pause"}, {"restart", "node1"}, {"reinit", "node1"}} {
		server := newFakeAPI(t)
		_, err := run(t, append(verb, "--api", server.URL)...)
		if exitCode(err) != exitUsage || len(server.changes()) != 0 {
			t.Errorf("walgate %v without an answer: %v, asked %v", verb, err, server.changes())
		}
	}
}

func TestTokenIsSent(t *testing.T) {
	server := newFakeAPI(t)
	token := filepath.Join(t.TempDir(), "token")
	if _, err := run(t, "secret", token); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "secret", token); err == nil {
		t.Error("secret wrote over a file")
	}
	content, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "resume", "--api", server.URL, "--token-file", token); err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /v1/resume Bearer " + strings.TrimSpace(string(content))}
	if diff := cmp.Diff(want, server.changes()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestEditorChangesSettings(t *testing.T) {
	server := newFakeAPI(t)
	editor := filepath.Join(t.TempDir(), "editor")
	script := "#!/bin/sh\nprintf '{\"ttl\":\"9s\",\"parameters\":{\"work_mem\":\"1MB\"}}' > \"$1\"\n"
	if err := os.WriteFile(editor, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VISUAL", editor)
	if _, err := run(t, "config", "edit", "--api", server.URL); err != nil {
		t.Fatal(err)
	}
	want := []string{`PATCH /v1/config {"ttl":"9s","parameters":{"jit":null,"work_mem":"1MB"}}`}
	if diff := cmp.Diff(want, server.changes()); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	t.Setenv("VISUAL", "true")
	if out, err := run(t, "config", "edit", "--api", server.URL); err != nil || !strings.Contains(out, "nothing was changed") {
		t.Errorf("an edit that changes nothing: %q, %v", out, err)
	}
}
