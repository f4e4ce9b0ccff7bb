package router

import "bytes"

// TokenKind is the class of a token.
type TokenKind uint8

// The classes of tokens. White space and comments are skipped.
const (
	TokenEnd    TokenKind = iota // end of input; stays
	TokenWord                    // an unquoted identifier or keyword
	TokenQuoted                  // a quoted identifier: "..." or U&"..."
	TokenString                  // '...', E'...', U&'...', B'...', X'...' or $tag$...$tag$, continuations included
	TokenNumber
	TokenParam // $1
	TokenOperator
	TokenPunct // one of , ( ) [ ] . .. ; : :: := and a lone $
	TokenBad   // an unterminated quote or comment, or a byte that no statement may hold; ends the input
)

// Token is one token: sql[Start:End].
type Token struct {
	Kind       TokenKind
	Start, End int32
}

// Lexer cuts SQL into tokens as PostgreSQL 13 to 18 do (src/backend/parser/scan.l). It is total and does not
// allocate. One difference is deliberate: a number never swallows letters that touch it (PostgreSQL 15 rejects "1abc",
// older versions read two tokens), so that no keyword can hide there.
type Lexer struct {
	sql  []byte
	pos  int
	opts Options
}

// NewLexer returns a lexer at the beginning of sql, which must be shorter than 2 GiB.
func NewLexer(sql []byte, opts Options) Lexer { return Lexer{sql: sql, opts: opts} }

// The classes of bytes, for one table lookup per byte.
const (
	byteSpace = 1 << iota
	byteIdentStart
	byteDigit
	byteOperator
	bytePunct
)

// byteIdent is what may follow in an identifier, '$' aside.
const byteIdent = byteIdentStart | byteDigit

var byteClass = buildByteClasses()

func buildByteClasses() (table [256]uint8) {
	for _, c := range []byte(" \t\n\r\f\v") {
		table[c] |= byteSpace
	}
	for c := 'a'; c <= 'z'; c++ {
		table[c] |= byteIdentStart
		table[c-'a'+'A'] |= byteIdentStart
	}
	table['_'] |= byteIdentStart
	for c := 0x80; c <= 0xff; c++ {
		table[c] |= byteIdentStart
	}
	for c := '0'; c <= '9'; c++ {
		table[c] |= byteDigit
	}
	for _, c := range []byte("~!@#^&|`?+-*/%<>=") {
		table[c] |= byteOperator
	}
	for _, c := range []byte(",()[].;:") {
		table[c] |= bytePunct
	}
	return table
}

// Next returns the next token; at the end, and after a TokenBad, always TokenEnd.
func (l *Lexer) Next() Token {
	if !l.skipBlank() {
		return l.bad(l.pos)
	}
	start := l.pos
	if start >= len(l.sql) {
		return Token{Kind: TokenEnd, Start: int32(start), End: int32(start)}
	}
	c := l.sql[start]
	switch class := byteClass[c]; {
	case class&byteIdentStart != 0:
		if kind, handled := l.prefixed(c); handled {
			return l.finish(kind, start)
		}
		l.word()
		return l.token(TokenWord, start)
	case class&byteDigit != 0 || c == '.' && l.peekClass(1)&byteDigit != 0:
		l.number()
		return l.token(TokenNumber, start)
	case class&bytePunct != 0:
		if l.pos++; l.pos < len(l.sql) && doubled(c, l.sql[l.pos]) {
			l.pos++
		}
		return l.token(TokenPunct, start)
	case class&byteOperator != 0:
		l.operator()
		return l.token(TokenOperator, start)
	case c == '\'':
		return l.finish(l.str(l.opts.BackslashStrings), start)
	case c == '"':
		return l.finish(l.quoted(), start)
	case c == '$':
		return l.finish(l.dollar(), start)
	}
	return l.bad(start)
}

// doubled reports whether two bytes of punctuation are one token: .. :: and :=
func doubled(first, second byte) bool {
	return first == '.' && second == '.' || first == ':' && (second == ':' || second == '=')
}

func (l *Lexer) token(kind TokenKind, start int) Token {
	return Token{Kind: kind, Start: int32(start), End: int32(l.pos)}
}

func (l *Lexer) finish(kind TokenKind, start int) Token {
	if kind == TokenBad {
		return l.bad(start)
	}
	return l.token(kind, start)
}

// bad ends the input: nothing behind an open quote can be trusted.
func (l *Lexer) bad(start int) Token {
	l.pos = len(l.sql)
	return Token{Kind: TokenBad, Start: int32(start), End: int32(len(l.sql))}
}

func (l *Lexer) peek(n int) byte {
	if l.pos+n < len(l.sql) {
		return l.sql[l.pos+n]
	}
	return 0
}

func (l *Lexer) peekClass(n int) uint8 { return byteClass[l.peek(n)] }

// skipBlank skips white space and comments; false means a comment that does not end.
func (l *Lexer) skipBlank() bool {
	for l.pos < len(l.sql) {
		c := l.sql[l.pos]
		switch {
		case byteClass[c]&byteSpace != 0:
			l.pos++
		case c == '-' && l.peek(1) == '-':
			l.lineComment()
		case c == '/' && l.peek(1) == '*':
			if !l.blockComment() {
				return false
			}
		default:
			return true
		}
	}
	return true
}

func (l *Lexer) lineComment() {
	for l.pos < len(l.sql) && l.sql[l.pos] != '\n' && l.sql[l.pos] != '\r' {
		l.pos++
	}
}

// blockComment skips a comment, which may hold others; it moves nowhere if the comment does not end.
func (l *Lexer) blockComment() bool {
	start, depth := l.pos, 0
	for l.pos < len(l.sql) {
		switch {
		case l.sql[l.pos] == '/' && l.peek(1) == '*':
			depth++
			l.pos += 2
		case l.sql[l.pos] == '*' && l.peek(1) == '/':
			depth--
			l.pos += 2
			if depth == 0 {
				return true
			}
		default:
			l.pos++
		}
	}
	l.pos = start
	return false
}

func (l *Lexer) word() {
	for l.pos < len(l.sql) && (byteClass[l.sql[l.pos]]&byteIdent != 0 || l.sql[l.pos] == '$') {
		l.pos++
	}
}

// prefixed reads E”, B”, X”, N”, U&” and U&"".
func (l *Lexer) prefixed(c byte) (kind TokenKind, handled bool) {
	next := l.peek(1)
	if next != '\'' && next != '&' {
		return 0, false
	}
	switch c {
	case 'e', 'E':
		if next == '\'' {
			l.pos++
			return l.str(true), true
		}
	case 'n', 'N':
		if next == '\'' {
			l.pos++
			return l.str(l.opts.BackslashStrings), true
		}
	case 'b', 'B', 'x', 'X':
		if next == '\'' {
			l.pos++
			return l.digitString(), true
		}
	case 'u', 'U':
		if next == '&' && l.peek(2) == '\'' {
			l.pos += 2
			return l.str(false), true
		}
		if next == '&' && l.peek(2) == '"' {
			l.pos += 2
			return l.quoted(), true
		}
	}
	return 0, false
}

// number reads 1, 1.5, .5, 1e5; "1..2" is a number, two dots and a number.
func (l *Lexer) number() {
	l.digits()
	if l.peek(0) == '.' && l.peek(1) != '.' {
		l.pos++
		l.digits()
	}
	if c := l.peek(0); c == 'e' || c == 'E' {
		sign := 0
		if s := l.peek(1); s == '+' || s == '-' {
			sign = 1
		}
		if l.peekClass(1+sign)&byteDigit != 0 {
			l.pos += 1 + sign
			l.digits()
		}
	}
}

func (l *Lexer) digits() {
	for l.pos < len(l.sql) && byteClass[l.sql[l.pos]]&byteDigit != 0 {
		l.pos++
	}
}

// operator reads a run of operator characters, which ends where a comment begins. It may end in + or - only if it holds a
// character that no operator of the SQL standard has: a=-1 is a comparison with a negative number.
func (l *Lexer) operator() {
	start, unusual := l.pos, false
	for ; l.pos < len(l.sql) && byteClass[l.sql[l.pos]]&byteOperator != 0; l.pos++ {
		switch c, next := l.sql[l.pos], l.peek(1); c {
		case '-', '/':
			if l.pos > start && (c == '-' && next == '-' || c == '/' && next == '*') {
				l.trimSigns(start, unusual)
				return
			}
		case '~', '!', '@', '#', '%', '^', '&', '|', '`', '?':
			unusual = true
		}
	}
	l.trimSigns(start, unusual)
}

// trimSigns gives the signs at the end of an operator back.
func (l *Lexer) trimSigns(start int, unusual bool) {
	for !unusual && l.pos > start+1 && (l.sql[l.pos-1] == '+' || l.sql[l.pos-1] == '-') {
		l.pos--
	}
}

// str reads a string from its opening quote, with its continuations on further lines.
func (l *Lexer) str(backslash bool) TokenKind {
	for {
		if !l.quotedRun('\'', backslash) {
			return TokenBad
		}
		if !l.continued() {
			return TokenString
		}
	}
}

// digitString reads B'...' or X'...' from its opening quote; a quote can't be doubled there.
func (l *Lexer) digitString() TokenKind {
	for {
		end := bytes.IndexByte(l.sql[l.pos+1:], '\'')
		if end < 0 || bytes.IndexByte(l.sql[l.pos+1:][:end], 0) >= 0 {
			return TokenBad
		}
		l.pos += end + 2
		if !l.continued() {
			return TokenString
		}
	}
}

func (l *Lexer) quoted() TokenKind {
	if !l.quotedRun('"', false) {
		return TokenBad
	}
	return TokenQuoted
}

// quotedRun skips from an opening quote past the closing one; a doubled quote stands for itself.
func (l *Lexer) quotedRun(quote byte, backslash bool) bool {
	l.pos++
	for l.pos < len(l.sql) {
		switch c := l.sql[l.pos]; {
		case c == quote:
			l.pos++
			if l.peek(0) != quote || l.pos >= len(l.sql) {
				return true
			}
			l.pos++
		case c == '\\' && backslash:
			l.pos += 2
		case c == 0:
			return false
		default:
			l.pos++
		}
	}
	l.pos = len(l.sql)
	return false
}

// continued moves to the opening quote of a continuation: white space with at least one line end, and -- comments.
// Otherwise it moves nowhere.
func (l *Lexer) continued() bool {
	at, newline := l.pos, false
	for l.pos < len(l.sql) {
		c := l.sql[l.pos]
		switch {
		case c == '\n' || c == '\r':
			newline = true
			l.pos++
		case byteClass[c]&byteSpace != 0:
			l.pos++
		case c == '-' && l.peek(1) == '-':
			l.lineComment()
		case c == '\'' && newline:
			return true
		default:
			l.pos = at
			return false
		}
	}
	l.pos = at
	return false
}

// dollar reads a parameter, a dollar-quoted string, or a lone dollar sign.
func (l *Lexer) dollar() TokenKind {
	start := l.pos
	l.pos++
	if l.peekClass(0)&byteDigit != 0 {
		l.digits()
		return TokenParam
	}
	if l.peekClass(0)&byteIdentStart != 0 {
		for l.pos < len(l.sql) && byteClass[l.sql[l.pos]]&byteIdent != 0 {
			l.pos++
		}
	}
	if l.peek(0) != '$' {
		l.pos = start + 1
		return TokenPunct
	}
	l.pos++
	tag := l.sql[start:l.pos]
	for ; l.pos+len(tag) <= len(l.sql); l.pos++ {
		if l.sql[l.pos] == '$' && string(l.sql[l.pos:l.pos+len(tag)]) == string(tag) {
			l.pos += len(tag)
			return TokenString
		}
	}
	return TokenBad
}
