package router

import "math"

// Options tell how the server would read the text.
type Options struct {
	// BackslashStrings: standard_conforming_strings is off, so a backslash escapes in '...' too.
	BackslashStrings bool
	// UnsafeEncoding: client_encoding is one whose trailing bytes may look like ASCII (SJIS, BIG5, GBK, UHC, GB18030,
	// JOHAB, SHIFT_JIS_2004); the text cannot be read here and is a write of which nothing is known.
	UnsafeEncoding bool
	// Catalog is what is known of the database; nil: nothing.
	Catalog *Catalog
}

// Classify sorts a query string: one statement or several. It is total, does not allocate and keeps no reference to
// sql. When in doubt it answers Write. For several statements the Verdict is Read only if all of them are, and Flags
// are or-ed; use Split and Classify to look at them one by one.
func Classify(sql []byte, opts Options) Verdict {
	if opts.UnsafeEncoding || len(sql) > math.MaxInt32 {
		return Verdict{Statements: 1, Flags: Unreadable | Opaque | MayCommit | PinState}
	}
	c := classifier{sql: sql, lx: NewLexer(sql, opts)}
	count := int32(0)
	var all Verdict // of the statements before the one in c.v
	for c.next(); c.tok.Kind != TokenEnd; c.next() {
		if c.punct(';') {
			continue
		}
		if count > 0 {
			all = merge(all, c.v)
		}
		count++
		c.v = Verdict{Statements: 1}
		c.statement()
		if c.tok.Kind == TokenBad {
			c.v.Kind, c.v.Flags = Write, c.v.Flags|Unreadable
		}
	}
	switch count {
	case 0:
		c.v = Verdict{Kind: Read, Command: CommandEmpty}
	case 1:
	default:
		c.v = merge(all, c.v)
	}
	if len(sql) > 0 && byteClass[sql[0]]&byteIdentStart == 0 { // it may begin with a comment
		c.v.Hint = readHint(sql)
	}
	return c.v
}

// merge joins the verdict of one more statement.
func merge(all, one Verdict) Verdict {
	if all.Statements == 0 {
		return one
	}
	merged := Verdict{Command: CommandMany, Flags: all.Flags | one.Flags, Statements: all.Statements + 1}
	if all.Kind == Read && one.Kind == Read {
		merged.Kind = Read
	}
	return merged
}

// Split returns the first statement of sql at or after from, without its semicolon, and where the next one begins; ok
// is false when there is none. It does not allocate.
func Split(sql []byte, from int, opts Options) (stmt Span, next int, ok bool) {
	if opts.UnsafeEncoding || len(sql) > math.MaxInt32 {
		return Span{}, len(sql), false
	}
	c := classifier{sql: sql, lx: NewLexer(sql, opts)}
	c.lx.pos = from
	for c.next(); c.punct(';'); {
		c.next()
	}
	if c.tok.Kind == TokenEnd {
		return Span{}, len(sql), false
	}
	stmt.Start = c.tok.Start
	c.statement()
	stmt.End = c.prev.End
	if c.tok.Kind == TokenBad {
		stmt.End = c.tok.End
	}
	return stmt, int(c.tok.End), true
}

// classifier reads one query string. tok is the token under the eye, prev the one before it.
type classifier struct {
	sql       []byte
	lx        Lexer
	tok, prev Token
	v         Verdict
	depth     int // open parentheses before the statement's first word
	nest      int // open parentheses of the body under the eye
	// callsBehind: in the body under the eye a call may follow a closing parenthesis.
	callsBehind bool
	buf         [maxIdentifier + 1]byte
}

func (c *classifier) next() {
	c.prev = c.tok
	c.tok = c.lx.Next()
}

func (c *classifier) text(t Token) []byte { return c.sql[t.Start:t.End] }

func (c *classifier) punct(b byte) bool { return c.tok.Kind == TokenPunct && c.sql[c.tok.Start] == b }

// word reports whether the token is the given keyword, in lower case.
func (c *classifier) word(lower string) bool {
	return c.tok.Kind == TokenWord && equalFold(c.text(c.tok), lower)
}

// accept moves past the keyword if it stands here.
func (c *classifier) accept(lower string) bool {
	if c.word(lower) {
		c.next()
		return true
	}
	return false
}

// ended reports whether the statement ends here.
func (c *classifier) ended() bool {
	return c.tok.Kind == TokenEnd || c.tok.Kind == TokenBad || c.punct(';')
}

// folded returns the word in lower case, cut to what PostgreSQL keeps of an identifier; valid until the next call.
func (c *classifier) folded(t Token) []byte {
	text := c.text(t)
	text = text[:min(len(text), maxIdentifier)]
	for i, b := range text {
		c.buf[i] = lowerByte[b]
	}
	return c.buf[:len(text)]
}

// skip moves to the end of the statement.
func (c *classifier) skip() {
	for depth := 0; ; c.next() {
		switch {
		case c.tok.Kind == TokenEnd || c.tok.Kind == TokenBad:
			return
		case c.punct('('):
			depth++
		case c.punct(')'):
			depth--
		case c.punct(';') && depth <= 0:
			return
		}
	}
}

// name reads a name with its dotted parts.
func (c *classifier) name() (s Span) {
	if c.tok.Kind != TokenWord && c.tok.Kind != TokenQuoted {
		return Span{}
	}
	s = Span{c.tok.Start, c.tok.End}
	for c.next(); c.punct('.'); c.next() {
		c.next()
		if c.tok.Kind != TokenWord && c.tok.Kind != TokenQuoted {
			return s
		}
		s.End = c.tok.End
	}
	return s
}

// rest returns the span from here to the end of the statement, and moves there.
func (c *classifier) rest() Span {
	if c.ended() {
		return Span{}
	}
	s := Span{Start: c.tok.Start}
	c.skip()
	s.End = c.prev.End
	return s
}
