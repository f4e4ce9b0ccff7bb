package postgres

import (
	"context"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// RunGuard is the body of the hidden verb `walgate guard`: args are the arguments after the verb, unparsed. Call it on
// the main goroutine of a process that does nothing else.
func RunGuard(ctx context.Context, args []string) error { return guard.Run(ctx, args) }
