package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what a Client reads.
const maxAnswer = 16 << 20

// Client talks to the API of one process. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// RefusedError is an answer of the API that is not a success.
type RefusedError struct {
	Status  int // HTTP status code
	Problem Problem
}

// Error says what the API said.
func (e *RefusedError) Error() string {
	if e.Problem.Hint == "" {
		return e.Problem.Error
	}
	return e.Problem.Error + " (" + strings.TrimSpace(e.Problem.Hint) + ")"
}

// ErrUnreachable says that no answer came.
var ErrUnreachable = errors.New("the API does not answer")

// NewClient returns a client of the API at base (http://host:port). token may be empty. Requests end with their context.
func NewClient(base, token string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("API address %q; allowed: http://HOST:PORT or https://HOST:PORT", base)
	}
	// A transport of its own, without proxies from the environment: members are reached directly.
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Cluster asks for the state of the cluster.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	var cluster Cluster
	return cluster, c.do(ctx, http.MethodGet, "/v1/cluster", nil, &cluster)
}

// History asks how the epochs began, oldest first.
func (c *Client) History(ctx context.Context) ([]Event, error) {
	var list []Event
	return list, c.do(ctx, http.MethodGet, "/v1/history", nil, &list)
}

// Settings asks for the settings of the cluster.
func (c *Client) Settings(ctx context.Context) (Settings, error) {
	var settings Settings
	return settings, c.do(ctx, http.MethodGet, "/v1/config", nil, &settings)
}

// ChangeSettings applies the patch and returns what holds then.
func (c *Client) ChangeSettings(ctx context.Context, patch Settings) (Settings, error) {
	var settings Settings
	return settings, c.do(ctx, http.MethodPatch, "/v1/config", patch, &settings)
}

// Switchover moves the primary; it answers when the old one streams from the new one.
func (c *Client) Switchover(ctx context.Context, request SwitchoverRequest) (SwitchoverResult, error) {
	var result SwitchoverResult
	return result, c.do(ctx, http.MethodPost, "/v1/switchover", request, &result)
}

// Failover moves the primary without waiting for open transactions.
func (c *Client) Failover(ctx context.Context, request SwitchoverRequest) (SwitchoverResult, error) {
	var result SwitchoverResult
	return result, c.do(ctx, http.MethodPost, "/v1/failover", request, &result)
}

// Verb posts a verb without arguments: pause, resume, restart, reload, reinitialize.
func (c *Client) Verb(ctx context.Context, name string) (Done, error) {
	var done Done
	return done, c.do(ctx, http.MethodPost, "/v1/"+name, nil, &done)
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return fmt.Errorf("build request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end or of no more interest
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: read answer: %w", ErrUnreachable, err)
	}
	if response.StatusCode >= 300 {
		refused := &RefusedError{Status: response.StatusCode}
		if json.Unmarshal(answer, &refused.Problem) != nil || refused.Problem.Error == "" {
			refused.Problem.Error = fmt.Sprintf("%s answered %s", c.base+path, response.Status)
		}
		return refused
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s%s does not speak walgate's API: %w", c.base, path, err)
	}
	return nil
}
