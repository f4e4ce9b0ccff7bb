package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// cluster is what the tests need of GET /v1/cluster.
type cluster struct {
	Cluster string  `json:"cluster"`
	Epoch   uint64  `json:"epoch"`
	Version uint64  `json:"version"`
	Primary *string `json:"primary"`
	Open    bool    `json:"open"`
	Paused  bool    `json:"paused"`
	Sync    struct {
		Mode   string   `json:"mode"`
		Quorum int      `json:"quorum"`
		Voters []string `json:"voters"`
	} `json:"sync"`
	Members []member `json:"members"`
	Proxies []struct {
		ID       string `json:"id"`
		Addr     string `json:"addr"`
		Epoch    uint64 `json:"epoch"`
		Sessions int    `json:"sessions"`
		Held     int    `json:"held"`
	} `json:"proxies"`
	LastFailover *struct {
		Epoch   uint64 `json:"epoch"`
		From    string `json:"from"`
		To      string `json:"to"`
		Reason  string `json:"reason"`
		PauseMS int64  `json:"pause_ms"`
	} `json:"last_failover"`
	StoreError string `json:"store_error"`
}

type member struct {
	Name     string  `json:"name"`
	Role     string  `json:"role"`
	State    string  `json:"state"`
	Host     string  `json:"host"`
	Port     int     `json:"port"`
	API      string  `json:"api"`
	Timeline int     `json:"timeline"`
	Received *string `json:"received_lsn"`
	Replayed *string `json:"replayed_lsn"`
	LagBytes *int64  `json:"lag_bytes"`
	LagMS    *int64  `json:"lag_ms"`
	Sync     string  `json:"sync_state"`
	Upstream string  `json:"upstream"`
	Why      string  `json:"why"`
}

func (c cluster) primary() string {
	if c.Primary == nil {
		return ""
	}
	return *c.Primary
}

// healthy is nil when n members do what they are for.
func (c cluster) healthy(n int) error {
	switch {
	case c.primary() == "" || !c.Open:
		return fmt.Errorf("epoch %d: primary %q, open %v", c.Epoch, c.primary(), c.Open)
	case len(c.Members) != n:
		return fmt.Errorf("%d of %d members", len(c.Members), n)
	}
	for _, m := range c.Members {
		want, role := "streaming", "standby"
		if m.Name == c.primary() {
			want, role = "running", "primary"
		}
		if m.State != want || m.Role != role {
			return fmt.Errorf("epoch %d: %s is a %s %s: %s", c.Epoch, m.Name, m.State, m.Role, m.Why)
		}
	}
	return nil
}

// httpClient has no proxy from the environment and keeps no connection, so that a frozen process holds up nothing.
var httpClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// call makes one HTTP request and returns status and body.
func call(ctx context.Context, method, url, body string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("build request: %w", err)
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", url, err)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, string(content), errors.Join(err, response.Body.Close())
}

// clusterAt asks one API.
func clusterAt(ctx context.Context, api string) (cluster, error) {
	var c cluster
	status, body, err := call(ctx, http.MethodGet, api+"/v1/cluster", "")
	if err != nil {
		return c, err
	}
	if status != http.StatusOK {
		return c, fmt.Errorf("%s says %d: %s", api, status, body)
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return c, fmt.Errorf("read cluster of %s: %w", api, err)
	}
	return c, nil
}

// cluster asks the sidecar.
func (d *Demo) cluster(t testing.TB) cluster {
	t.Helper()
	c, err := clusterAt(t.Context(), d.facts(t).Sidecar.API)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitOpen returns once a primary of an epoch past the given one takes writes, as the sidecar sees it.
func (d *Demo) awaitOpen(t testing.TB, past uint64) cluster {
	t.Helper()
	var c cluster
	api := d.facts(t).Sidecar.API
	await(t, failoverLimit, fmt.Sprintf("an open primary past epoch %d", past), func(ctx context.Context) error {
		var err error
		if c, err = clusterAt(ctx, api); err != nil {
			return err
		}
		if c.Epoch <= past || c.primary() == "" || !c.Open {
			return fmt.Errorf("epoch %d, primary %q, open %v: %s", c.Epoch, c.primary(), c.Open, whys(c))
		}
		return nil
	})
	return c
}

func whys(c cluster) string {
	texts := make([]string, 0, len(c.Members))
	for _, m := range c.Members {
		texts = append(texts, fmt.Sprintf("%s %s (%s)", m.Name, m.State, m.Why))
	}
	return strings.Join(texts, ", ")
}

// awaitHealthy returns once every API says that every member does what it is for, and PostgreSQL itself says so too.
func (d *Demo) awaitHealthy(t testing.TB) cluster {
	t.Helper()
	var c cluster
	await(t, healLimit, "every member to stream", func(ctx context.Context) error {
		f := d.facts(t)
		var epoch uint64
		for _, api := range d.apis(f) {
			var err error
			if c, err = clusterAt(ctx, api); err != nil {
				return err
			}
			if err := c.healthy(d.N); err != nil {
				return fmt.Errorf("%s: %w", api, err)
			}
			if epoch != 0 && c.Epoch != epoch {
				return fmt.Errorf("%s is at epoch %d, others at %d", api, c.Epoch, epoch)
			}
			epoch = c.Epoch
		}
		return d.postgresAgrees(ctx, f, c)
	})
	return c
}

func (d *Demo) apis(f facts) []string {
	list := []string{f.Sidecar.API}
	for _, n := range f.Nodes {
		list = append(list, n.API)
	}
	return list
}

// postgresAgrees asks every PostgreSQL directly: one primary, all others stream from it through one active slot each,
// and no slot is anywhere else.
func (d *Demo) postgresAgrees(ctx context.Context, f facts, c cluster) error {
	for _, n := range f.Nodes {
		var inRecovery bool
		var streams, active, slots int
		err := askOnce(ctx, d.direct(f, n), `select pg_is_in_recovery(),
			(select count(*) from pg_stat_replication where state = 'streaming'),
			(select count(*) from pg_replication_slots where active),
			(select count(*) from pg_replication_slots)`, &inRecovery, &streams, &active, &slots)
		switch {
		case err != nil:
			return fmt.Errorf("ask PostgreSQL of %s: %w", n.Name, err)
		case inRecovery == (n.Name == c.primary()):
			return fmt.Errorf("%s: pg_is_in_recovery() is %v, and the primary is %s", n.Name, inRecovery, c.primary())
		case n.Name == c.primary() && (streams != d.N-1 || active != d.N-1 || slots != d.N-1):
			return fmt.Errorf("primary %s has %d streams, %d slots, %d of them active; want %d", n.Name, streams, slots, active, d.N-1)
		case n.Name != c.primary() && slots != 0:
			return fmt.Errorf("standby %s has %d slots", n.Name, slots)
		}
	}
	return nil
}
