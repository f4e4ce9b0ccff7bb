package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/walgate/walgate/replication"
)

// EtcdConfig tells where etcd is.
type EtcdConfig struct {
	Cluster   string
	Endpoints []string      // URLs, the local member first
	TLS       *tls.Config   // nil: clear text
	Timeout   time.Duration // O: of one request
	// Attempt bounds one try of a read, and the wait for a connection, before the next endpoint is asked; so a frozen
	// member costs less than O.
	Attempt time.Duration
	Clock   func() replication.Instant // CLOCK_BOOTTIME
}

// Open returns the cluster's store in etcd. It does not wait for a connection. Requests go to one endpoint, the first
// one at the start; after one that gave no answer the next endpoint is used, until that fails too.
func Open(cfg EtcdConfig, log *slog.Logger) (*Store, error) {
	switch {
	case cfg.Cluster == "" || len(cfg.Endpoints) == 0:
		return nil, errors.New("open store: cluster and endpoints are required")
	case cfg.Timeout <= 0 || cfg.Attempt <= 0 || cfg.Clock == nil:
		return nil, errors.New("open store: timeout, attempt and clock are required")
	}
	e := &etcd{cfg: cfg, log: log}
	for _, endpoint := range cfg.Endpoints {
		client, err := newClient(endpoint, cfg.TLS)
		if err != nil {
			_ = e.close()
			return nil, fmt.Errorf("open store at %s: %w", endpoint, err)
		}
		e.clients = append(e.clients, client)
	}
	return newStore(e, cfg.Cluster), nil
}

// newClient returns a client of one endpoint. One client per endpoint, because etcd's own balancer spreads requests
// over all connections that look ready, and that of a frozen member does.
func newClient(endpoint string, tlsConfig *tls.Config) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint},
		TLS:       tlsConfig,
		Logger:    zap.NewNop(),
		// grpc-go raises any shorter interval to 10 s; silent members are found by deadlines and by watch instead.
		// The timeout is the TCP user timeout too: unacknowledged bytes end a connection after 1 s.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: time.Second,
		MaxUnaryRetries:      1,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: time.Second,
		})},
	})
}

// etcd is the kv of a real etcd.
type etcd struct {
	cfg     EtcdConfig
	log     *slog.Logger
	clients []*clientv3.Client // in the order of Endpoints
	current atomic.Int64       // index of the one in use
}

// rotate leaves client i, if it is still the one in use.
func (e *etcd) rotate(i int64) {
	if e.current.CompareAndSwap(i, (i+1)%int64(len(e.clients))) && len(e.clients) > 1 {
		e.log.Debug("store endpoint changed", "from", e.cfg.Endpoints[i], "to", e.cfg.Endpoints[e.current.Load()])
	}
}

// ready waits until the client is connected, for at most Attempt. Nothing has been sent when it fails.
func (e *etcd) ready(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Attempt)
	defer cancel()
	conn := client.ActiveConnection()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return fmt.Errorf("connection %s: %w", state, ErrUnavailable)
		case connectivity.Idle:
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("connection %s: %w", state, ErrUnavailable)
		}
	}
}

// do sends a request to the endpoint in use. One that may be repeated is tried at every endpoint while there is time;
// any other is sent once, and tried elsewhere only if it was not sent.
func (e *etcd) do(ctx context.Context, repeatable bool, send func(context.Context, *clientv3.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	var last error
	for try := 0; ; try++ {
		if try > 0 && try%len(e.clients) == 0 {
			_ = sleep(ctx, 50*time.Millisecond) // all have refused at once
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(ctx.Err(), last))
		}
		i := e.current.Load()
		last = e.ready(ctx, e.clients[i])
		if last != nil {
			e.rotate(i)
			continue
		}
		last = e.attempt(ctx, repeatable, e.clients[i], send)
		if last == nil {
			return nil
		}
		if !isTransient(last) {
			return last
		}
		e.rotate(i)
		if !repeatable {
			return fmt.Errorf("%w: %w", ErrUnknown, last)
		}
	}
}

// attempt sends once; repeatable requests get a part of the time if there is another endpoint to ask.
func (e *etcd) attempt(ctx context.Context, repeatable bool, client *clientv3.Client,
	send func(context.Context, *clientv3.Client) error) error {
	if repeatable && len(e.clients) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.cfg.Attempt)
		defer cancel()
	}
	return classify(send(ctx, client))
}

// classify marks what etcd has refused without carrying it out; everything else stays as it is.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var etcdErr rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &etcdErr) {
		code = etcdErr.Code()
	}
	switch code {
	case codes.NotFound:
		return fmt.Errorf("%w: %w", ErrLeaseLost, err) // the only thing we name that can be missing
	case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted, codes.Unimplemented:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// isTransient tells whether another endpoint or another moment may answer better.
func isTransient(err error) bool {
	return !errors.Is(err, ErrLeaseLost) && !errors.Is(err, ErrUnavailable)
}

func (e *etcd) txn(ctx context.Context, compares []compare, ops []op) (result, error) {
	var cmps []clientv3.Cmp
	for _, c := range compares {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(c.key), "=", c.rev))
	}
	var then []clientv3.Op
	readOnly := true
	for _, o := range ops {
		then = append(then, etcdOp(o))
		readOnly = readOnly && o.kind == opRange
	}
	var res result
	err := e.do(ctx, readOnly, func(ctx context.Context, client *clientv3.Client) error {
		sentAt := e.cfg.Clock()
		// A transaction without serializable ranges is linearizable (etcd, "KV API guarantees").
		answer, err := client.Txn(ctx).If(cmps...).Then(then...).Commit()
		if err != nil {
			return err
		}
		res = result{ok: answer.Succeeded, rev: answer.Header.Revision, sentAt: sentAt}
		for _, r := range answer.Responses {
			if found := r.GetResponseRange(); found != nil {
				var items []item
				for _, kv := range found.Kvs {
					items = append(items, item{key: string(kv.Key), value: kv.Value, rev: kv.ModRevision})
				}
				res.ranges = append(res.ranges, items)
			}
		}
		return nil
	})
	return res, err
}

func etcdOp(o op) clientv3.Op {
	var opts []clientv3.OpOption
	if o.end != "" {
		opts = append(opts, clientv3.WithRange(o.end))
	}
	switch o.kind {
	case opPut:
		if o.lease != 0 {
			opts = append(opts, clientv3.WithLease(clientv3.LeaseID(o.lease)))
		}
		return clientv3.OpPut(o.key, string(o.value), opts...)
	case opDelete:
		return clientv3.OpDelete(o.key, opts...)
	}
	if o.limit > 0 {
		opts = append(opts, clientv3.WithLimit(int64(o.limit)), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	}
	return clientv3.OpGet(o.key, opts...)
}

func (e *etcd) grant(ctx context.Context, ttl time.Duration) (Lease, error) {
	var lease Lease
	seconds := int64((ttl + time.Second - 1) / time.Second)
	err := e.do(ctx, true, func(ctx context.Context, client *clientv3.Client) error { // a lease granted twice expires once
		answer, err := client.Grant(ctx, seconds)
		if err == nil {
			lease = Lease(answer.ID)
		}
		return err
	})
	return lease, err
}

func (e *etcd) keep(ctx context.Context, lease Lease) error {
	return e.do(ctx, true, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.KeepAliveOnce(ctx, clientv3.LeaseID(lease))
		return err
	})
}

func (e *etcd) revoke(ctx context.Context, lease Lease) error {
	err := e.do(ctx, true, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Revoke(ctx, clientv3.LeaseID(lease))
		return err
	})
	if errors.Is(err, ErrLeaseLost) {
		return nil
	}
	return err
}

func (e *etcd) close() error {
	var errs []error
	for _, client := range e.clients {
		if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
