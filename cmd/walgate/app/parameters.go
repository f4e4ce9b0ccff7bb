package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/walgate/walgate/ha/postgres"
)

// The limits of one application of parameters, and the pause after one that did not succeed.
const (
	parametersLimit = 15 * time.Second
	parametersRetry = 10 * time.Second
)

// CheckParameters says which PostgreSQL parameters nobody may set, because walgate manages them or they have no name.
func CheckParameters(parameters map[string]string) error {
	c := Default()
	c.Node.Name, c.Node.Host, c.Node.DataDir, c.Node.StateDir = "node", "localhost", "/data", "/state"
	c.Postgres.Parameters = parameters
	_, err := postgres.New(c.instance(postgres.NewSecret(c.Cluster.Name, make([]byte, 32)), "stand-in"), slog.New(slog.DiscardHandler))
	return err
}

// merged are the parameters of the file under those of the record.
func merged(file, record map[string]string) map[string]string {
	all := maps.Clone(file)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, record)
	return all
}

// keepParameters brings the parameters of the record and of the file to PostgreSQL, whenever one of them has changed or
// another postmaster runs, until ctx ends.
func (n *node) keepParameters(ctx context.Context) {
	var applied map[string]string
	var appliedTo uint64 // start time of the postmaster
	for {
		snapshot, newSnapshot := n.follower.Snapshots().Changed()
		file, newFile := n.parameters.Changed()
		status, newStatus := n.agent.Status().Changed()
		if snapshot.Record != nil && status.Alive {
			want := merged(file, snapshot.Record.Settings.Parameters)
			if appliedTo != status.Process.StartTime || !maps.Equal(applied, want) {
				if n.applyParameters(ctx, want) {
					applied, appliedTo = want, status.Process.StartTime
					continue
				}
				newSnapshot, newStatus = nil, after(ctx, parametersRetry) // news of the store come too often to try at each
			}
		}
		select {
		case <-newSnapshot:
		case <-newFile:
		case <-newStatus:
		case <-ctx.Done():
			return
		}
	}
}

// after is closed when the time has passed or ctx has ended.
func after(ctx context.Context, pause time.Duration) <-chan struct{} {
	waiting, cancel := context.WithTimeout(ctx, pause)
	context.AfterFunc(waiting, cancel) // frees the timer
	return waiting.Done()
}

// applyParameters returns false when it is worth another try.
func (n *node) applyParameters(ctx context.Context, parameters map[string]string) bool {
	ctx, cancel := context.WithTimeout(ctx, parametersLimit)
	defer cancel()
	restart, err := n.instance.SetParameters(ctx, parameters)
	switch {
	case errors.Is(err, postgres.ErrParameter):
		n.log.Error("parameters not applied", "err", err)
		return true // nothing of it changes by itself
	case err != nil:
		n.log.Warn("parameters not applied", "err", err)
		return false
	case len(restart) > 0:
		n.log.Warn("parameters applied, some wait for a restart of PostgreSQL", "restart", restart)
	default:
		n.log.Info("parameters applied", "count", len(parameters))
	}
	return true
}
