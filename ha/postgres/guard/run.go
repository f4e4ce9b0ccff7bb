package guard

import (
	"context"
	"errors"
)

// Run is the guard process.
func Run(ctx context.Context, args []string) error { return errors.New("not built yet") }
