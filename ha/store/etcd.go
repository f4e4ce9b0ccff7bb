package store

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/walgate/walgate/replication"
)

// EtcdConfig tells where etcd is.
type EtcdConfig struct {
	Cluster   string
	Endpoints []string      // URLs, the local member first
	TLS       *tls.Config   // nil: clear text
	Timeout   time.Duration // O: of one request
	// Attempt bounds one try of a read before the next endpoint is asked, so that a frozen member costs less than O.
	Attempt time.Duration
	Clock   func() replication.Instant // CLOCK_BOOTTIME
}

// Open returns the cluster's store in etcd. It does not wait for a connection. Requests go to one endpoint, the first
// one at the start; after one that gave no answer the next endpoint is used.
func Open(cfg EtcdConfig, log *slog.Logger) (*Store, error) {
	return nil, errors.New("open")
}
