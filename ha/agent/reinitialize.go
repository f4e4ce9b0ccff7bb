package agent

import (
	"context"
	"fmt"
)

// Reinitialize gives up the data directory of a standby: PostgreSQL is stopped, and from then on the verdict of rejoin is
// to set the directory aside and to clone it anew. It returns when PostgreSQL has stopped; Status shows the rest. The
// caller makes sure that this node is not the primary.
func (a *Agent) Reinitialize(ctx context.Context) error {
	noted := make(chan struct{}) // closed by the loop
	note := func() {
		a.remember(func(mem *memory) { mem.RewindFailed = true })
		close(noted)
	}
	select {
	case a.apply <- note:
		<-noted
	case <-ctx.Done():
		return fmt.Errorf("reinitialize: %w", context.Cause(ctx))
	}
	if _, err := a.pg.StopFast(ctx); err != nil {
		return fmt.Errorf("reinitialize: %w", err)
	}
	return nil
}
