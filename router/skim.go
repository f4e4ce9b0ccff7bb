package router

import (
	"bytes"
	"math"
)

// notable tells, for each first byte of a word, which lengths a body must look at (bit 63: 63 and more): bodyWord's
// keywords. All other words only end and begin names.
var notable = buildNotable()

func buildNotable() (table [256]uint64) {
	mark := func(first byte, lengths uint64) {
		table[first] |= lengths
		table[first-'a'+'A'] |= lengths
	}
	for _, word := range []string{"insert", "into", "update", "delete", "merge", "share", "temp", "temporary", "on", "operator", "execute", "cmin"} {
		mark(word[0], 1<<len(word))
	}
	mark('p', math.MaxUint64&^15) // pg_...
	return table
}

// skim is next for bodies: it moves to the next token that may mean something to one, and takes all others – words,
// numbers, literals, parameters, commas – at a run. It is what makes classification cheap; what it can't take is left to
// the Lexer. name and nest are kept as body keeps them.
func (c *classifier) skim(name *chain) {
	sql, pos := c.sql, c.lx.pos
	prev, tok := c.prev, c.tok
	catalog := c.lx.opts.Catalog
	meaning, operators := &notable, true
	if catalog != nil {
		meaning, operators = catalog.meaning, catalog.operators == nil
	}
	for pos < len(sql) {
		b, start := sql[pos], pos
		class := byteClass[b]
		kind := TokenPunct
		switch {
		case class&byteSpace != 0:
			pos++
			continue
		case class&byteIdentStart != 0:
			for pos++; pos < len(sql) && wordByte[sql[pos]]; pos++ {
			}
			n := uint(pos - start)
			if quick := n-2 < 61 && meaning[b]>>n&1 == 0; !quick && !c.plainWord(start, pos, tok) {
				pos = start
				goto lexer
			}
			name.goesOn(tok, tok.Kind == TokenPunct && sql[tok.Start] == '.')
			for pos+1 < len(sql) && sql[pos] == '.' && byteClass[sql[pos+1]]&byteIdentStart != 0 { // the other parts of the name
				prev, tok = Token{Kind: TokenWord, Start: int32(start), End: int32(pos)}, Token{Kind: TokenPunct, Start: int32(pos), End: int32(pos + 1)}
				start = pos + 1
				for pos += 2; pos < len(sql) && wordByte[sql[pos]]; pos++ {
				}
				n := uint(pos - start)
				if quick := n-2 < 61 && meaning[sql[start]]>>n&1 == 0; !quick && !c.plainWord(start, pos, tok) {
					pos, name.last = start, prev
					goto lexer
				}
				name.schema = prev
				name.parts++
			}
			kind = TokenWord
		case b == ',' || b == '[' || b == ']' || b == ':':
			if pos++; b == ':' && pos < len(sql) && doubled(b, sql[pos]) {
				pos++
			}
		case b == '.' || b == '$':
			digit := pos+1 < len(sql) && byteClass[sql[pos+1]]&byteDigit != 0
			if digit != (b == '$') || pos+1 < len(sql) && sql[pos+1] == '.' {
				goto lexer // .5, .., $tag$
			}
			if pos++; b == '$' {
				kind, pos = TokenParam, skipDigits(sql, pos)
			}
		case class&byteDigit != 0:
			pos = skipDigits(sql, pos)
			if pos < len(sql) && (sql[pos] == '.' || sql[pos]|0x20 == 'e') {
				pos = start
				goto lexer
			}
			kind = TokenNumber
		case b == '\'':
			if pos = c.plainString(pos); pos < 0 {
				pos = start
				goto lexer
			}
			kind = TokenString
		case b == '"':
			if pos = c.plainQuoted(pos); pos < 0 {
				pos = start
				goto lexer
			}
			name.goesOn(tok, tok.Kind == TokenPunct && sql[tok.Start] == '.')
			for pos+1 < len(sql) && sql[pos] == '.' && sql[pos+1] == '"' {
				prev, tok = Token{Kind: TokenQuoted, Start: int32(start), End: int32(pos)}, Token{Kind: TokenPunct, Start: int32(pos), End: int32(pos + 1)}
				start = pos + 1
				if pos = c.plainQuoted(start); pos < 0 {
					pos, name.last = start, prev
					goto lexer
				}
				name.schema = prev
				name.parts++
			}
			kind = TokenQuoted
		case class&byteOperator != 0 && operators:
			if pos = plainOperator(sql, pos); pos < 0 {
				pos = start
				goto lexer
			}
			kind = TokenOperator
		case b == '(':
			pos++
			if called := sql[tok.Start:tok.End]; tok.Kind == TokenWord && (name.parts == 1 && catalog.callsQuick(called) ||
				name.parts == 2 && name.schema.Kind == TokenWord && equalFold(c.text(name.schema), "pg_catalog") && ownQuick(called)) {
				c.nest++
				break
			}
			if tok.Kind == TokenWord || tok.Kind == TokenQuoted || tok.Kind == TokenPunct && sql[tok.Start] == '.' { // a call?
				c.prev, c.tok, c.lx.pos = tok, Token{Kind: TokenPunct, Start: int32(start), End: int32(pos)}, pos
				return
			}
			c.nest++
		case b == ')' && c.nest > 1:
			c.nest--
			pos++
		default:
			goto lexer
		}
		prev, tok = tok, Token{Kind: kind, Start: int32(start), End: int32(pos)}
		if kind == TokenWord || kind == TokenQuoted {
			name.last = tok
		}
		if pos < len(sql) && sql[pos] == ',' { // what is most often behind a token is taken with it
			prev, tok = tok, Token{Kind: TokenPunct, Start: int32(pos), End: int32(pos + 1)}
			pos++
		}
		if pos < len(sql) && sql[pos] == ' ' {
			pos++ // most tokens are followed by one
		}
	}
lexer:
	c.prev, c.tok, c.lx.pos = prev, tok, pos
	c.next()
}

// plainWord reports whether the word sql[start:end] behind the token before means nothing to a body.
func (c *classifier) plainWord(start, end int, before Token) bool {
	sql := c.sql
	first, length := sql[start], uint(min(end-start, 63))
	if length == 1 && end < len(sql) && (sql[end] == '\'' || sql[end] == '&') {
		return false // E'...'
	}
	if c.lx.opts.Catalog.mayBeImpure(sql[start:end]) {
		return false
	}
	switch {
	case notable[first]>>length&1 == 0:
		return true
	case length == 2:
		return before.End-before.Start != int32(len("distinct"))
	case first|0x20 == 'p':
		return !maySystem(sql[start:end])
	}
	return !isNotable(sql[start:end])
}

// isNotable reports whether a word is one of the keywords in notable.
func isNotable(word []byte) bool {
	switch word[0] | 0x20 {
	case 'i':
		return equalFold(word, "insert") || equalFold(word, "into")
	case 'u':
		return equalFold(word, "update")
	case 'd':
		return equalFold(word, "delete")
	case 'm':
		return equalFold(word, "merge")
	case 's':
		return equalFold(word, "share")
	case 't':
		return equalFold(word, "temp") || equalFold(word, "temporary")
	case 'o':
		return equalFold(word, "operator")
	case 'e':
		return equalFold(word, "execute")
	case 'c':
		return equalFold(word, "cmin") || equalFold(word, "cmax")
	}
	return true
}

// plainQuoted returns the end of the quoted identifier that begins at pos, if it means nothing to a body; else -1.
func (c *classifier) plainQuoted(pos int) (end int) {
	sql := c.sql
	for end = pos + 1; end < len(sql) && sql[end] != '"' && sql[end] != 0; end++ {
	}
	length := uint(end - pos - 1)
	if end >= len(sql) || sql[end] == 0 || length-1 >= maxIdentifier || end+1 < len(sql) && sql[end+1] == '"' {
		return -1
	}
	name := sql[pos+1 : end]
	switch name[0] {
	case 'p', 'P':
		if maySystem(name) {
			return -1
		}
	case 'c':
		if isCommandID(name) {
			return -1
		}
	}
	if c.lx.opts.Catalog.mayBeImpure(name) {
		return -1
	}
	return end + 1
}

// maySystem reports whether a word may be pg_temp or the name of a relation that belongs to one node.
func maySystem(word []byte) bool {
	if len(word) < len("pg_xx") || word[0]|0x20 != 'p' || word[1]|0x20 != 'g' || word[2] != '_' {
		return false
	}
	return systemLengths[systemKey(word)]>>min(uint(len(word)), 63)&1 != 0
}

// systemKey joins what tells names behind pg_ apart.
func systemKey(word []byte) uint8 { return (word[3]|0x20)*7 + (word[4] | 0x20) }

// systemLengths tells, for each systemKey, which lengths (63: and more) such names have.
var systemLengths = buildSystemLengths()

func buildSystemLengths() (table [256]uint64) {
	for name := range nodeLocalRelations {
		table[systemKey([]byte(name))] |= 1 << len(name)
	}
	table[systemKey([]byte("pg_temp"))] |= 1 << len("pg_temp")
	table[systemKey([]byte("pg_stat_"))] |= math.MaxUint64 &^ (1<<len("pg_stat_") - 1)
	return table
}

// plainOperator returns the end of the operator that begins at pos; -1 if it may be a comment, or end before its last sign.
func plainOperator(sql []byte, pos int) (end int) {
	for end = pos; end < len(sql) && byteClass[sql[end]]&byteOperator != 0; end++ {
		if b := sql[end]; end > pos && (b == '-' || b == '+' || b == '*' || sql[end-1] == '-') {
			return -1
		}
	}
	return end
}

// plainString returns the end of the string literal that begins at pos; -1 if it is not a plain one.
func (c *classifier) plainString(pos int) (end int) {
	if c.lx.opts.BackslashStrings {
		return -1
	}
	n := bytes.IndexByte(c.sql[pos+1:], '\'')
	if n < 0 {
		return -1
	}
	end = pos + n + 2
	if bytes.IndexByte(c.sql[pos:end], 0) >= 0 {
		return -1
	}
	for i := end; i < len(c.sql); i++ {
		switch b := c.sql[i]; {
		case b == '\'' && i == end, b == '\n', b == '\r': // doubled, or it may go on on the next line
			return -1
		case byteClass[b]&byteSpace == 0:
			return end
		}
	}
	return end
}

func skipDigits(sql []byte, pos int) int {
	for pos < len(sql) && byteClass[sql[pos]]&byteDigit != 0 {
		pos++
	}
	return pos
}

// wordByte holds what may follow in an unquoted identifier.
var wordByte = buildWordBytes()

func buildWordBytes() (table [256]bool) {
	for b, class := range byteClass {
		table[b] = class&byteIdent != 0 || b == '$'
	}
	return table
}
