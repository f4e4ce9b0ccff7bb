package admin

import (
	"encoding/binary"
	"strconv"
)

// Types of columns, by their OID in pg_type.
const (
	typeText    = 25
	typeInt4    = 23
	typeInt8    = 20
	typeNumeric = 1700
)

// column is a column of an answer.
type column struct {
	name string
	typ  uint32
}

// columns makes columns of names by their types: one letter for each, s text, i int4, l int8, n numeric.
func columns(types string, names ...string) []column {
	byLetter := map[byte]uint32{'s': typeText, 'i': typeInt4, 'l': typeInt8, 'n': typeNumeric}
	if len(types) != len(names) {
		panic("admin: as many types as columns: " + types)
	}
	list := make([]column, len(names))
	for i, name := range names {
		list[i] = column{name, byLetter[types[i]]}
	}
	return list
}

// table is an answer. Values are strings, integers as int64, or nil for NULL.
type table struct {
	columns []column
	rows    [][]any
}

// add adds a row; ints and booleans become int64.
func (t *table) add(values ...any) {
	for i, v := range values {
		switch n := v.(type) {
		case int:
			values[i] = int64(n)
		case uint32:
			values[i] = int64(n)
		case uint64:
			values[i] = int64(n & (1<<63 - 1))
		case bool:
			values[i] = int64(0)
			if n {
				values[i] = int64(1)
			}
		}
	}
	t.rows = append(t.rows, values)
}

// format of a value on the wire.
type format uint16

const (
	formatText format = iota
	formatBinary
)

// formatOf says how column i is sent, by the list of a Bind message: none, one for all, or one for each.
func formatOf(formats []format, i int) format {
	switch {
	case len(formats) == 1:
		return formats[0]
	case i < len(formats):
		return formats[i]
	default:
		return formatText
	}
}

func appendRowDescription(dst []byte, list []column, formats []format) []byte {
	at := len(dst) + 1
	dst = append(dst, 'T', 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(list)))
	for i, c := range list {
		dst = append(append(dst, c.name...), 0)
		dst = append(dst, 0, 0, 0, 0, 0, 0) // of no table
		dst = binary.BigEndian.AppendUint32(dst, c.typ)
		size := int16(-1)
		switch c.typ {
		case typeInt4:
			size = 4
		case typeInt8:
			size = 8
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(size))
		dst = append(dst, 0xff, 0xff, 0xff, 0xff) // no type modifier
		dst = binary.BigEndian.AppendUint16(dst, uint16(formatOf(formats, i)))
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

func appendDataRow(dst []byte, list []column, row []any, formats []format) []byte {
	at := len(dst) + 1
	dst = append(dst, 'D', 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(row)))
	for i, v := range row {
		if v == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		sizeAt := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = appendValue(dst, list[i].typ, v, formatOf(formats, i))
		binary.BigEndian.PutUint32(dst[sizeAt:], uint32(len(dst)-sizeAt-4))
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

func appendValue(dst []byte, typ uint32, v any, f format) []byte {
	n, isNumber := v.(int64)
	switch {
	case !isNumber:
		text, _ := v.(string)
		return append(dst, text...)
	case f == formatBinary && typ == typeInt4:
		return binary.BigEndian.AppendUint32(dst, uint32(n))
	case f == formatBinary && typ == typeInt8:
		return binary.BigEndian.AppendUint64(dst, uint64(n))
	case f == formatBinary && typ == typeNumeric:
		return appendNumeric(dst, n)
	default:
		return strconv.AppendInt(dst, n, 10)
	}
}

// appendNumeric is the binary form of numeric: digits to the base 10000 (numeric_send in
// src/backend/utils/adt/numeric.c).
func appendNumeric(dst []byte, n int64) []byte {
	sign := uint16(0)
	if n < 0 {
		sign, n = 0x4000, -n
	}
	var digits []uint16
	for rest := uint64(n); rest > 0; rest /= 10000 {
		digits = append(digits, uint16(rest%10000))
	}
	weight := uint16(0)
	if len(digits) > 0 {
		weight = uint16(len(digits) - 1)
	}
	for _, part := range []uint16{uint16(len(digits)), weight, sign, 0} {
		dst = binary.BigEndian.AppendUint16(dst, part)
	}
	for i := len(digits) - 1; i >= 0; i-- {
		dst = binary.BigEndian.AppendUint16(dst, digits[i])
	}
	return dst
}
