package replication

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the write-ahead log (PostgreSQL documentation, "pg_lsn Type"). The zero LSN is invalid in
// PostgreSQL and means "not known" here.
type LSN uint64

// ErrLSN says that a text is no log position.
var ErrLSN = errors.New("not a log position of the form X/X")

// ParseLSN reads the textual form X/X (two hexadecimal numbers of up to eight digits).
func ParseLSN(s string) (LSN, error) {
	high, low, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("%q: %w", s, ErrLSN)
	}
	h, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", s, ErrLSN)
	}
	l, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", s, ErrLSN)
	}
	return LSN(h<<32 | l), nil
}

// String prints the position as PostgreSQL 13 to 18 print it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// Known reports whether the position is set.
func (l LSN) Known() bool { return l != 0 }

// BytesPast returns how many bytes l lies past other, 0 when it does not.
func (l LSN) BytesPast(other LSN) int64 {
	if l <= other {
		return 0
	}
	return int64(l - other)
}

// MarshalText writes the textual form; an unknown position is the empty text.
func (l LSN) MarshalText() ([]byte, error) {
	if l == 0 {
		return nil, nil
	}
	return []byte(l.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (l *LSN) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = 0
		return nil
	}
	parsed, err := ParseLSN(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}
