package router

// Options tell how the server would read the text.
type Options struct {
	// BackslashStrings: standard_conforming_strings is off, so a backslash escapes in '...' too.
	BackslashStrings bool
	// UnsafeEncoding: client_encoding is one whose trailing bytes may look like ASCII (SJIS, BIG5, GBK, UHC, GB18030,
	// JOHAB, SHIFT_JIS_2004); the text cannot be read here and is a write of which nothing is known.
	UnsafeEncoding bool
}

// Classify sorts a query string: one statement or several. It is total, does not allocate and keeps no reference to
// sql. When in doubt it answers Write. For several statements the Verdict is Read only if all of them are, and Flags
// are or-ed; use Split and Classify to look at them one by one.
func Classify(sql []byte, opts Options) Verdict {
	return Verdict{Statements: 1}
}

// Split returns the first statement of sql at or after from, without its semicolon, and where the next one begins; ok
// is false when there is none. It does not allocate.
func Split(sql []byte, from int, opts Options) (stmt Span, next int, ok bool) {
	return Span{}, len(sql), false
}

func appendIdentifier(dst, raw []byte) []byte { return append(dst, raw...) }

func appendSetValue(dst, raw []byte, opts Options) ([]byte, bool) { return append(dst, raw...), true }

func equalFold(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
