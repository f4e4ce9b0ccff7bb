package store

import (
	"errors"
	"fmt"
)

// What a caller branches on. Every error of this package about an operation wraps one of them or is a *CorruptError.
var (
	// ErrConflict: a compare failed, nothing was written. Read again: if an earlier attempt had an unknown outcome, the
	// change found may be one's own.
	ErrConflict = errors.New("the store has changed")
	// ErrUnknown: the request may have been sent and no answer came; it may take effect now, later or never. Read again.
	ErrUnknown = errors.New("outcome unknown")
	// ErrUnavailable: the store gave no answer, and nothing was written.
	ErrUnavailable = errors.New("store unavailable")
	// ErrLeaseLost: the etcd lease has expired, and with it the keys bound to it.
	ErrLeaseLost = errors.New("lease lost")
)

// CorruptError says that a key holds what this program cannot read: it is damaged, or written by a newer version.
// Nothing may be decided from such a store.
type CorruptError struct {
	Key string
	Err error
}

// Error names the key.
func (e *CorruptError) Error() string { return fmt.Sprintf("value of %s: %v", e.Key, e.Err) }

// Unwrap returns what is wrong with the value.
func (e *CorruptError) Unwrap() error { return e.Err }
