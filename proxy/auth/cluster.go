package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
)

// ClusterLookup asks walgate.verifier(text) as walgate_monitor, the primary first and then every other member. Each
// question uses a connection of its own: logins of one role are cached and shared, so they are rare.
type ClusterLookup struct {
	View     *replication.Feed[replication.View]
	User     string // walgate_monitor
	Password string
	Database string // where the schema walgate lives
}

// Verifier implements Lookup.
func (l *ClusterLookup) Verifier(ctx context.Context, user string) (string, error) {
	view := l.View.Load()
	members := make([]replication.Member, 0, len(view.Members))
	if primary, ok := view.Member(view.Primary); ok {
		members = append(members, primary)
	}
	for _, m := range view.Members {
		if m.Name != view.Primary {
			members = append(members, m)
		}
	}
	err := errors.New("no members in the view")
	for i, m := range members {
		// A silent node may use its share of the time only, or it would spoil the question to the others.
		text, askErr := l.askWithin(ctx, m, user, len(members)-i)
		if askErr == nil {
			return text, nil
		}
		err = askErr
	}
	return "", err
}

func (l *ClusterLookup) askWithin(ctx context.Context, m replication.Member, user string, shares int) (string, error) {
	ctx, cancel := share(ctx, shares)
	defer cancel()
	config, err := pgconn.ParseConfig("sslmode=disable application_name=walgate_login")
	if err != nil {
		return "", fmt.Errorf("build config: %w", err)
	}
	config.Host, config.Port = m.Host, uint16(m.Port)
	config.User, config.Password, config.Database = l.User, l.Password, l.Database
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return "", fmt.Errorf("connect to %s: %w", net.JoinHostPort(m.Host, strconv.Itoa(m.Port)), err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is lost with it
	result := conn.ExecParams(ctx, "select walgate.verifier($1::text)", [][]byte{[]byte(user)}, nil, nil, nil).Read()
	if result.Err != nil {
		return "", fmt.Errorf("ask %s: %w", m.Name, result.Err)
	}
	if len(result.Rows) == 0 || len(result.Rows[0]) == 0 {
		return "", nil
	}
	return string(result.Rows[0][0]), nil
}

// share returns a context that may use one of n shares of the time that ctx has left.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || n <= 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}
