package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"
)

// replaceTimeout bounds the attempt at one endpoint, which may be a dead one.
const replaceTimeout = 3 * time.Second

// ReplaceMember removes the named member through the others and adds it again under the peer URL, so that it can start
// with an empty folder and Join. It needs a majority of the members without it, and is safe to repeat.
func ReplaceMember(ctx context.Context, endpoints []string, tlsConfig *tls.Config, name, peerURL string) error {
	var errs []error
	for _, endpoint := range endpoints {
		err := replaceAt(ctx, endpoint, tlsConfig, name, peerURL)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("at %s: %w", endpoint, err))
	}
	return fmt.Errorf("replace store member %s: %w", name, errors.Join(errs...))
}

func replaceAt(ctx context.Context, endpoint string, tlsConfig *tls.Config, name, peerURL string) (err error) {
	client, err := newClient(endpoint, tlsConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, replaceTimeout)
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("list members: %w", err)
	}
	for _, m := range list.Members {
		switch {
		case m.Name == "" && slices.Equal(m.PeerURLs, []string{peerURL}):
			return nil // added already, not started yet
		case m.Name == name:
			if _, err := client.MemberRemove(ctx, m.ID); err != nil {
				return fmt.Errorf("remove: %w", err)
			}
		}
	}
	if _, err := client.MemberAdd(ctx, []string{peerURL}); err != nil {
		return fmt.Errorf("add: %w", err)
	}
	return nil
}
