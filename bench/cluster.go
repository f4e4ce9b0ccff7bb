package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// cluster is the part of GET /v1/cluster that is measured.
type cluster struct {
	Epoch   uint64  `json:"epoch"`
	Primary *string `json:"primary"`
	Open    bool    `json:"open"`
	Members []struct {
		Name  string `json:"name"`
		Role  string `json:"role"`
		State string `json:"state"`
	} `json:"members"`
	LastFailover *LastFailover `json:"last_failover"`
}

// LastFailover is what the cluster itself says about its last change of primary.
type LastFailover struct {
	Epoch   uint64    `json:"epoch"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	PauseMS int64     `json:"pause_ms"`
}

func (c cluster) primary() string {
	if c.Primary == nil {
		return ""
	}
	return *c.Primary
}

// role returns the role that the member shows.
func (c cluster) role(name string) string {
	for _, m := range c.Members {
		if m.Name == name {
			return m.Role
		}
	}
	return ""
}

// healthy returns nil when every one of n members does its work, else what is missing.
func (c cluster) healthy(n int) error {
	if c.primary() == "" || !c.Open {
		return fmt.Errorf("primary %q, open %v", c.primary(), c.Open)
	}
	working := 0
	for _, m := range c.Members {
		switch {
		case m.Name == c.primary() && m.Role == "primary" && m.State == "running", m.Role == "standby" && m.State == "streaming":
			working++
		default:
			return fmt.Errorf("%s is %s, %s", m.Name, m.Role, m.State)
		}
	}
	if working < n {
		return fmt.Errorf("%d of %d members are there", working, n)
	}
	return nil
}

// api asks the REST API of the sidecar.
type api struct {
	base   string
	client *http.Client
}

func newAPI(base string) *api {
	return &api{base: base, client: &http.Client{Transport: &http.Transport{}}}
}

func (a *api) close() { a.client.CloseIdleConnections() }

// cluster asks for the state, for at most a second.
func (a *api) cluster(ctx context.Context) (cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var c cluster
	return c, a.do(ctx, http.MethodGet, "/v1/cluster", nil, &c)
}

// switchover asks for a switchover to the best candidate; the answer comes when it is done.
func (a *api) switchover(ctx context.Context, from string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	body, err := json.Marshal(map[string]string{"from": from})
	if err != nil {
		return err
	}
	return a.do(ctx, http.MethodPost, "/v1/switchover", body, nil)
}

func (a *api) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, answer.Status, content)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(content, into)
}

// waitHealthy waits until n members do their work.
func (a *api) waitHealthy(ctx context.Context, n int, limit time.Duration) (cluster, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not healthy within %v", limit))
	defer cancel()
	for {
		c, err := a.cluster(ctx)
		if err == nil {
			err = c.healthy(n)
		}
		if err == nil {
			return c, nil
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return c, errors.Join(context.Cause(ctx), err)
		}
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// marks are the moments at which the API of the sidecar first showed a step of the change; zero: never.
type marks struct {
	claimed  time.Time // a new epoch
	promoted time.Time // its primary is out of recovery
	opened   time.Time // it takes writes
	healed   time.Time // every member works, and went on working
	primary  string
}

// observer watches the API during a run.
type observer struct {
	api *api

	nodes int

	mu    sync.Mutex
	epoch uint64 // before the fault
	marks marks
}

// observeEvery is how often the API is asked during a run: the resolution of marks.
const observeEvery = 20 * time.Millisecond

// run asks until ctx ends.
func (o *observer) run(ctx context.Context) {
	for pause(ctx, observeEvery) == nil {
		c, err := o.api.cluster(ctx)
		if err != nil {
			continue
		}
		o.note(c, time.Now())
	}
}

// note takes the first new epoch down, and follows it if a newer one comes before the door opens.
func (o *observer) note(c cluster, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.Epoch <= o.epoch {
		return
	}
	switch {
	case c.healthy(o.nodes) != nil:
		o.marks.healed = time.Time{}
	case o.marks.healed.IsZero():
		o.marks.healed = now
	}
	if !o.marks.opened.IsZero() {
		return
	}
	if o.marks.claimed.IsZero() {
		o.marks.claimed = now
	}
	o.marks.primary = c.primary()
	if o.marks.promoted.IsZero() && (c.role(c.primary()) == "primary" || c.Open) {
		o.marks.promoted = now
	}
	if c.Open {
		o.marks.opened = now
	}
}

func (o *observer) seen() marks {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.marks
}
