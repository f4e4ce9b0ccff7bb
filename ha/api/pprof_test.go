package api_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/ha/api"
	"github.com/walgate/walgate/replication"
)

func TestProfilesAreServedToThisMachineWhenAskedFor(t *testing.T) {
	w := newWorld()
	off := w.serve(t, config("node1"))
	if status, body := call(t, http.MethodGet, off.URL+"/debug/pprof/", ""); status != http.StatusNotFound {
		t.Errorf("profiles that were not switched on: got %d %s", status, body)
	}
	cfg := config("node1")
	cfg.Pprof = true
	on := w.serve(t, cfg)
	if status, body := call(t, http.MethodGet, on.URL+"/debug/pprof/heap?debug=1", ""); status != http.StatusOK {
		t.Errorf("profile: got %d %s", status, body)
	}
	if status, _ := call(t, http.MethodGet, on.URL+"/debug/pprof/heap?debug=1", "", "Origin", "http://evil.example"); status != http.StatusForbidden {
		t.Errorf("profile for a foreign page: got %d, want 403", status)
	}
	cfg.Listen = "0.0.0.0:0"
	_, err := api.New(cfg, api.Deps{
		Snapshots: &w.snapshots, Board: &w.board, Gate: &w.gate, Clock: func() replication.Instant { return now },
		StoreErr: func() error { return nil }, Records: w, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		t.Error("profiles on an open listener: got no error")
	}
}
