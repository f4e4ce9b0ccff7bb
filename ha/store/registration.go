package store

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// RegistrationConfig tells how a report is kept alive.
type RegistrationConfig struct {
	TTL     time.Duration // the report vanishes this long after its owner; whole seconds, at least 2
	Gap     time.Duration // least time between two writes; updates within it are written together
	Timeout time.Duration // of one request
}

// Leases is the part of a Store that a Registration needs.
type Leases interface {
	Grant(ctx context.Context, ttl time.Duration) (Lease, error)
	KeepLease(ctx context.Context, lease Lease) error
	Revoke(ctx context.Context, lease Lease) error
}

// Registration keeps one report in the store for as long as Run runs, bound to an etcd lease that is granted anew when
// it was lost. Update is safe for concurrent use and never blocks.
type Registration[T any] struct {
	cfg    RegistrationConfig
	leases Leases
	put    func(ctx context.Context, report T, lease Lease) error
	log    *slog.Logger
	wanted replication.Feed[*T] // nil until the first Update
}

// NewNodeRegistration returns the registration of a node. Nothing is written before the first Update.
func NewNodeRegistration(cfg RegistrationConfig, s *Store, log *slog.Logger) (*Registration[ha.NodeReport], error) {
	return newRegistration(cfg, s, s.PutNode, log)
}

// NewProxyRegistration returns the registration of a proxy. Nothing is written before the first Update.
func NewProxyRegistration(cfg RegistrationConfig, s *Store, log *slog.Logger) (*Registration[ha.ProxyReport], error) {
	return newRegistration(cfg, s, s.PutProxy, log)
}

func newRegistration[T any](cfg RegistrationConfig, leases Leases,
	put func(context.Context, T, Lease) error, log *slog.Logger) (*Registration[T], error) {
	if cfg.TTL < 2*time.Second || cfg.Gap < 0 || cfg.Timeout <= 0 {
		return nil, errors.New("registration: ttl of at least 2s and a timeout are required")
	}
	return &Registration[T]{cfg: cfg, leases: leases, put: put, log: log}, nil
}

// Update makes report the one to be kept. It is written soon, if it differs from what was written last.
func (r *Registration[T]) Update(report T) { r.wanted.Publish(&report) }

// Run keeps the report until ctx ends, then removes it. It returns the context's cause.
func (r *Registration[T]) Run(ctx context.Context) error {
	var k keeper[T]
	defer r.remove(ctx, &k)
	for {
		wanted, changed := r.wanted.Changed()
		pause := r.cfg.Gap
		if wanted != nil {
			if err := r.step(ctx, &k, *wanted); err != nil && ctx.Err() == nil {
				k.failed(r.log, err)
				pause = max(pause, r.cfg.Timeout/2)
			}
		}
		if err := sleep(ctx, pause); err != nil { // bounds the rate of writes, and of retries
			return err
		}
		if k.wrong || wanted != nil && !k.current(*wanted) {
			continue
		}
		timer := time.NewTimer(r.cfg.TTL / 3)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// keeper is what Run knows of its lease.
type keeper[T any] struct {
	lease   Lease
	keptAt  time.Time
	written *T
	wrong   bool // the last step did not succeed
}

func (k *keeper[T]) current(wanted T) bool {
	return k.lease != 0 && k.written != nil && reflect.DeepEqual(*k.written, wanted)
}

func (k *keeper[T]) failed(log *slog.Logger, err error) {
	if !k.wrong {
		log.Warn("registration not kept", "err", err)
	}
	k.wrong = true
	if errors.Is(err, ErrLeaseLost) {
		k.lease, k.written = 0, nil
	}
}

// step brings the store one move nearer to the wanted report: a lease, a lease kept, the report written.
func (r *Registration[T]) step(ctx context.Context, k *keeper[T], wanted T) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	now := time.Now()
	switch {
	case k.lease == 0:
		lease, err := r.leases.Grant(ctx, r.cfg.TTL)
		if err != nil {
			return err
		}
		k.lease, k.keptAt, k.written = lease, now, nil
	case now.Sub(k.keptAt) >= r.cfg.TTL/3 || k.wrong:
		if err := r.leases.KeepLease(ctx, k.lease); err != nil {
			return err
		}
		k.keptAt = now
	}
	if !k.current(wanted) {
		k.written = nil // unknown until the write has been answered
		if err := r.put(ctx, wanted, k.lease); err != nil {
			return err
		}
		k.written = &wanted
	}
	k.wrong = false
	return nil
}

// remove ends the lease, and the report with it; should that be impossible it expires.
func (r *Registration[T]) remove(ctx context.Context, k *keeper[T]) {
	if k.lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	if err := r.leases.Revoke(ctx, k.lease); err != nil {
		r.log.Debug("registration left to expire", "err", err)
	}
}
