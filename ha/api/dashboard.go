package api

import (
	_ "embed" // the dashboard is one file in the binary
	"net/http"
)

//go:embed dashboard.html
var dashboard []byte

// serveDashboard sends the page; it loads nothing but /v1/cluster from where it came.
func serveDashboard(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-cache")
	_, _ = w.Write(dashboard) // a client that has gone is its own problem
}
