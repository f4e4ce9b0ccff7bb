package auth

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
)

// ClusterQuery is the question to the cluster's own roles. The function hides walgate's roles, roles that may not log
// in, and passwords whose VALID UNTIL has passed.
const ClusterQuery = "select walgate.verifier($1::text)"

// maxIdle bounds the connections that a ClusterLookup keeps open.
const maxIdle = 2

// ClusterLookup asks PostgreSQL with one query, the primary first and then every other member. It keeps a few
// connections open between questions. It is safe for concurrent use.
type ClusterLookup struct {
	View     *replication.Feed[replication.View]
	User     string // who asks
	Password string
	Database string // where to ask
	// Query has the role's name as $1. The last column of its first row is a SCRAM verifier or md5 hash; no row or null
	// means that there is no such role.
	Query string

	mu     sync.Mutex
	idle   []idleConn
	closed bool
}

type idleConn struct {
	address string
	conn    *pgconn.PgConn
}

// Credential implements Lookup.
func (l *ClusterLookup) Credential(ctx context.Context, user string) (Credential, error) {
	view, changed := l.View.Changed()
	for len(view.Members) == 0 { // the proxy has just begun
		select {
		case <-changed:
			view, changed = l.View.Changed()
		case <-ctx.Done():
			return Credential{}, fmt.Errorf("wait for the members of the cluster: %w", context.Cause(ctx))
		}
	}
	members := make([]replication.Member, 0, len(view.Members))
	if primary, ok := view.Member(view.Primary); ok {
		members = append(members, primary)
	}
	for _, m := range view.Members {
		if m.Name != view.Primary {
			members = append(members, m)
		}
	}
	var err error // of the last
	for i, m := range members {
		// A silent node may use its share of the time only, or it would spoil the question to the others.
		text, askErr := l.askWithin(ctx, m, user, len(members)-i)
		if askErr == nil {
			return ParseCredential(text), nil
		}
		err = askErr
	}
	return Credential{}, err
}

func (l *ClusterLookup) askWithin(ctx context.Context, m replication.Member, user string, shares int) (string, error) {
	ctx, cancel := share(ctx, shares)
	defer cancel()
	address := net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	for {
		conn, reused := l.take(address)
		if conn == nil {
			var err error
			if conn, err = l.connect(ctx, m); err != nil {
				return "", fmt.Errorf("connect to %s: %w", address, err)
			}
		}
		result := conn.ExecParams(ctx, l.Query, [][]byte{[]byte(user)}, nil, nil, nil).Read()
		broken := conn.IsClosed()
		l.put(address, conn)
		switch {
		case result.Err != nil && broken && reused && ctx.Err() == nil:
			continue // it had died while nobody used it
		case result.Err != nil:
			return "", fmt.Errorf("ask %s: %w", m.Name, result.Err)
		case len(result.Rows) == 0 || len(result.Rows[0]) == 0:
			return "", nil
		}
		return string(result.Rows[0][len(result.Rows[0])-1]), nil
	}
}

func (l *ClusterLookup) connect(ctx context.Context, m replication.Member) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("build config: %w", err)
	}
	config.Host, config.Port = m.Host, uint16(m.Port)
	config.User, config.Password, config.Database = l.User, l.Password, l.Database
	// Nothing of the client's startup packet comes here, and no schema that others can write to is searched.
	config.RuntimeParams = map[string]string{
		"application_name": "walgate_login", "search_path": "pg_catalog",
	}
	return pgconn.ConnectConfig(ctx, config)
}

// take takes an idle connection to the address; nil: there is none.
func (l *ClusterLookup) take(address string) (conn *pgconn.PgConn, reused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.idle) - 1; i >= 0; i-- {
		if found := l.idle[i]; found.address == address {
			l.idle = append(l.idle[:i], l.idle[i+1:]...)
			return found.conn, true
		}
	}
	return nil, false
}

// put keeps a connection for the next question; what there is no room for, the oldest, is closed.
func (l *ClusterLookup) put(address string, conn *pgconn.PgConn) {
	if conn.IsClosed() {
		return
	}
	l.mu.Lock()
	var old []idleConn
	if l.idle = append(l.idle, idleConn{address, conn}); l.closed {
		old, l.idle = l.idle, nil
	} else if len(l.idle) > maxIdle {
		old, l.idle = []idleConn{l.idle[0]}, append([]idleConn(nil), l.idle[1:]...)
	}
	l.mu.Unlock()
	closeAll(old)
}

// Close closes the idle connections, and the others when they are given back.
func (l *ClusterLookup) Close() {
	l.mu.Lock()
	old := l.idle
	l.idle, l.closed = nil, true
	l.mu.Unlock()
	closeAll(old)
}

func closeAll(list []idleConn) {
	for _, i := range list {
		_ = i.conn.Conn().Close() // PostgreSQL notices; nothing is lost with it
	}
}

// share returns a context that may use one of n shares of the time that ctx has left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}
