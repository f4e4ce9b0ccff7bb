package store

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchPulse is how often a watch is asked for a sign of life; one that gives none until the next is taken for dead.
// The client's keepalive cannot do it: grpc-go pings every 10 s at most.
const watchPulse = time.Second

// watch keeps a watch at the endpoint in use and makes a new one, after a call of changed, whenever it ends: cancelled
// by a member that has lost its leader, compacted, or silent.
func (e *etcd) watch(ctx context.Context, prefix string, changed func()) {
	for ctx.Err() == nil {
		i := e.current.Load()
		changed()
		if e.ready(ctx, e.clients[i]) == nil {
			e.watchOnce(ctx, e.clients[i], prefix, changed)
		}
		if ctx.Err() == nil {
			e.rotate(i)
			_ = sleep(ctx, 100*time.Millisecond)
		}
	}
}

// watchOnce returns when the watch has ended, or gives no sign of life.
func (e *etcd) watchOnce(ctx context.Context, client *clientv3.Client, prefix string, changed func()) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	giveUp := time.AfterFunc(e.cfg.Timeout, cancel) // Watch waits for the member's answer
	events := client.Watch(ctx, prefix, clientv3.WithPrefix())
	if !giveUp.Stop() {
		return
	}
	changed() // what happened before the watch stood
	pulse := time.NewTicker(watchPulse)
	defer pulse.Stop()
	alive := true
	for {
		select {
		case answer, ok := <-events:
			if !ok || answer.Err() != nil {
				return
			}
			alive = true
			if len(answer.Events) > 0 {
				changed()
			}
		case <-pulse.C:
			if !alive {
				e.log.Debug("watch is silent", "endpoint", client.Endpoints()[0])
				return
			}
			alive = false
			if client.RequestProgress(ctx) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
