package postgres

import "context"

// CheckBinaries looks for the server programs that fit the data directory, or the newest ones. ErrNoBinaries: none.
func (i *Instance) CheckBinaries(ctx context.Context) error {
	_, err := i.binaries(ctx)
	return err
}
