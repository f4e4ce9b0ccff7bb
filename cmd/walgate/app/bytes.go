package app

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is an amount of data; in the file a number with a unit as PostgreSQL writes them (B, kB, MB, GB, TB, powers of
// 1024), or a plain number of bytes.
type Bytes int64

var byteUnits = []struct {
	suffix string
	factor int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

// String writes the amount in the largest unit that divides it.
func (b Bytes) String() string {
	for _, unit := range byteUnits {
		if b != 0 && int64(b)%unit.factor == 0 && unit.factor > 1 {
			return strconv.FormatInt(int64(b)/unit.factor, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func parseBytes(text string) (Bytes, error) {
	digits, factor := text, int64(1)
	for _, unit := range byteUnits {
		if head, ok := strings.CutSuffix(text, unit.suffix); ok {
			digits, factor = strings.TrimSpace(head), unit.factor
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is no amount of data; allowed: a number with B, kB, MB, GB or TB", text)
	}
	return Bytes(n * factor), nil
}
