package router

import "strings"

// bodyMode says what a body may be.
type bodyMode uint8

const (
	bodyQuery         bodyMode = iota // a query up to the end of the statement
	bodyParenthesised                 // a query up to the parenthesis that closes it
	bodyWrite                         // INSERT, UPDATE, DELETE, MERGE, arguments: only flags matter
	bodyDefinition                    // DDL and the rest: only pins matter
)

// running takes from flags those that only count when the body is run at once.
func (m bodyMode) running(flags Flags) Flags {
	if m == bodyDefinition {
		return flags &^ (Processes | OwnStatements)
	}
	return flags
}

// chain is the dotted name read last and what stood before it.
type chain struct {
	context Token // the token before the first part
	schema  Token // the part before the last, when there are several
	last    Token
	parts   int
}

// goesOn notes the place of a further part, if it stands behind a dot, or that of the first part of a new name.
func (n *chain) goesOn(before Token, dotted bool) {
	if dotted && n.parts > 0 {
		n.schema = n.last
		n.parts++
		return
	}
	n.context, n.parts = before, 1
}

// body scans the rest of a statement from tok on. It reports whether this is surely free of effects and answers the
// same on every node: no keyword that writes, no call of a function that is not known to be harmless, no view that
// belongs to one node. Flags and pins are noted on the way.
func (c *classifier) body(mode bodyMode) (pure bool) {
	pure = true
	c.callsBehind = false
	c.nest, c.depth = c.depth, 0
	var name chain
	for ; ; c.skim(&name) {
		switch c.tok.Kind {
		case TokenEnd:
			return pure
		case TokenBad:
			return false
		case TokenWord:
			name = c.extend(name)
			pure = c.bodyWord(mode) && !c.impure(name) && pure
		case TokenQuoted:
			name = c.extend(name)
			inner, known := c.identifier(c.tok)
			c.skipEscape()
			pure = known && !isNodeLocalRelation(inner) && !c.impure(name) && pure
		case TokenOperator:
			pure = !c.lx.opts.Catalog.isImpureOperator(c.text(c.tok)) && pure
		case TokenPunct:
			switch c.sql[c.tok.Start] {
			case '(':
				c.nest++
				if name.parts > 0 && c.prev == name.last {
					pure = c.call(name, mode) && pure
				} else if c.prev.Kind == TokenPunct && c.sql[c.prev.Start] == '.' {
					pure = false
				}
			case ')':
				if c.nest--; c.nest < 0 && mode == bodyParenthesised {
					return pure
				}
			case ';':
				if c.nest <= 0 {
					return pure
				}
			}
		}
	}
}

// extend adds the token to the dotted name, or begins a new one.
func (c *classifier) extend(name chain) chain {
	if c.prev.Kind == TokenPunct && c.sql[c.prev.Start] == '.' && name.parts > 0 {
		name.schema, name.last = name.last, c.tok
		name.parts++
		return name
	}
	return chain{context: c.prev, last: c.tok, parts: 1}
}

// bodyWord looks at a word of a body and reports whether a read may hold it.
func (c *classifier) bodyWord(mode bodyMode) bool {
	text := c.text(c.tok)
	if len(text) < 4 {
		c.callsBehind = c.callsBehind || equalFold(text, "on") && equalFold(c.text(c.prev), "distinct")
		return true
	}
	switch text[0] | 0x20 {
	case 'c':
		if isCommandID(c.folded(c.tok)) {
			c.v.Flags |= NodeLocal
			return false
		}
	case 'e':
		if mode == bodyDefinition && equalFold(text, "execute") && equalFold(c.text(c.prev), "as") {
			lx := c.lx
			name := lx.Next()
			c.v.Flags |= Executes
			c.v.Name = Span{name.Start, name.End}
		}
	case 'i':
		if equalFold(text, "into") && !equalFold(c.text(c.prev), "insert") && !equalFold(c.text(c.prev), "merge") {
			c.v.Flags |= Defines // SELECT ... INTO
			return false
		}
		return !equalFold(text, "into") && (!equalFold(text, "insert") || c.isColumn("into"))
	case 'u':
		return !equalFold(text, "update") || c.isColumn("")
	case 'd':
		return !equalFold(text, "delete") || c.isColumn("from")
	case 'm':
		return !equalFold(text, "merge") || c.isColumn("into")
	case 'o':
		c.callsBehind = c.callsBehind || equalFold(text, "operator")
	case 's':
		return !equalFold(text, "share") || !equalFold(c.text(c.prev), "for") && !equalFold(c.text(c.prev), "key")
	case 't':
		if c.v.Command == CommandSelect && (equalFold(text, "temp") || equalFold(text, "temporary")) &&
			(equalFold(c.text(c.prev), "into") || equalFold(c.text(c.prev), "local")) {
			c.v.Flags |= PinTempTable | State
		}
	case 'p':
		word := c.folded(c.tok)
		if mode == bodyDefinition && equalFold(word, "pg_temp") {
			c.v.Flags |= PinTempTable | State
		}
		if isNodeLocalRelation(word) {
			c.v.Flags |= mode.running(relationFlags(word))
			return false
		}
	}
	return true
}

// isColumn reports whether INSERT, UPDATE, DELETE or MERGE is surely no command here, but the name of a column: by what
// stands before it, or because what must follow the command does not.
func (c *classifier) isColumn(follows string) bool {
	before := c.text(c.prev)
	switch c.prev.Kind {
	case TokenOperator:
		return true
	case TokenPunct:
		if before[0] == '.' || before[0] == ',' {
			return true
		}
	case TokenWord:
		for _, word := range [...]string{"select", "distinct", "all", "where", "and", "or", "not", "on", "as", "when", "then", "else", "case", "having"} {
			if equalFold(before, word) {
				return true
			}
		}
		if equalFold(before, "for") || equalFold(before, "key") {
			return false
		}
	}
	lx := c.lx
	next := lx.Next()
	if follows == "" { // UPDATE table
		return next.Kind != TokenWord && next.Kind != TokenQuoted
	}
	return next.Kind != TokenWord || !equalFold(c.text(next), follows)
}

// call looks at name( and reports whether a read may hold it.
func (c *classifier) call(name chain, mode bodyMode) bool {
	class := c.classOfCall(name)
	switch class {
	case funcPure, funcSyntax:
		return true
	case funcKeyword:
		if c.lx.opts.Catalog != nil || c.isColumnList(name) || c.isBehindKeyword(name) {
			return true // a user's function of that name would be in the catalog
		}
		if mode != bodyDefinition {
			c.v.Flags |= Opaque
		}
	case funcWhere:
		c.v.Flags |= NodeLocal
		return true
	case funcNodeLocal:
		c.v.Flags |= NodeLocal
	case funcProcess:
		c.v.Flags |= mode.running(NodeLocal | Processes)
	case funcStatements:
		c.v.Flags |= mode.running(NodeLocal | OwnStatements)
	case funcAdvisory:
		c.v.Flags |= PinAdvisoryLock | State | Advisory
	case funcAdvisoryTx:
		c.v.Flags |= Advisory
	case funcAdvisoryAll:
		c.v.Flags |= State
		if c.selectsOnly(name) {
			c.v.Flags |= AdvisoryUnlockAll
		}
	case funcSequence:
		c.v.Flags |= Sequence
	case funcRecall:
		c.v.Flags |= Recalls
	case funcSeed:
		c.v.Flags |= PinSeed | State
	case funcSnapshot:
		c.v.Flags |= PinSnapshot
	case funcLargeObject:
		c.v.Flags |= PinLargeObject
	case funcSetConfig:
		c.setConfigInside()
	case funcCurrentSetting:
		if c.sharedArgument() {
			return true
		}
		c.v.Flags |= NodeLocal
	case funcUnknown:
		if c.isColumnList(name) {
			return true
		}
		if mode != bodyDefinition {
			c.v.Flags |= Opaque
		}
	}
	return false
}

// selectsOnly reports whether the statement is SELECT and this call, without arguments.
func (c *classifier) selectsOnly(name chain) bool {
	if c.v.Command != CommandSelect || !equalFold(c.text(name.context), "select") {
		return false
	}
	lx := c.lx
	closing, end := lx.Next(), lx.Next()
	return string(c.text(closing)) == ")" && (end.Kind == TokenEnd || string(c.text(end)) == ";")
}

// classOfCall looks the called name up; only unqualified names and those of pg_catalog can be PostgreSQL's own.
func (c *classifier) classOfCall(name chain) funcClass {
	catalog := c.lx.opts.Catalog
	qualified := name.parts > 1
	if name.parts == 2 && c.isCatalog(name.schema) {
		catalog, qualified = nil, false
	}
	called, known := c.identifier(name.last)
	if !known {
		return funcUnknown
	}
	class := catalog.classOf(called, qualified)
	if (class == funcSyntax || class == funcKeyword) && (name.last.Kind == TokenQuoted || name.parts > 1) {
		return funcUnknown // quoted, or behind a dot, it is no keyword
	}
	return class
}

// impure reports whether the word under the eye, the last of name, names something of the database that a read may not
// mention, or not as a type.
func (c *classifier) impure(name chain) bool {
	catalog := c.lx.opts.Catalog
	if catalog == nil || catalog.impure == nil {
		return false
	}
	if text := c.text(c.tok); c.tok.Kind == TokenWord && !catalog.mayBeImpure(text) {
		return len(text) > maxIdentifier
	}
	word, known := c.identifier(c.tok)
	if !known {
		return true
	}
	asType, found := catalog.impure[string(word)]
	return found && (!asType || c.isType(name))
}

// isType reports whether the name that ends here may be that of a type: behind :: and AS, and before a literal.
func (c *classifier) isType(name chain) bool {
	before := c.text(name.context)
	lx := c.lx
	return string(before) == "::" || name.context.Kind == TokenWord && equalFold(before, "as") || lx.Next().Kind == TokenString
}

func (c *classifier) isCatalog(t Token) bool {
	name, known := c.identifier(t)
	return known && string(name) == "pg_catalog"
}

// isColumnList reports whether name( opens the column list of an alias, a common table expression or a target, or the
// modifier of a type, and calls nothing: AS x(a), WITH x(a), ) x(a), t x(a), INTO x(a), ORDINALITY x(a),
// TABLESAMPLE x(1), ::x(1). Only behind DISTINCT ON (...) and OPERATOR(...) may a call follow a parenthesis.
func (c *classifier) isColumnList(name chain) bool {
	before := c.text(name.context)
	switch name.context.Kind {
	case TokenQuoted, TokenString, TokenNumber, TokenParam:
		return true // an expression has ended
	case TokenWord:
		return equalFold(before, "as") || equalFold(before, "with") || equalFold(before, "recursive") ||
			equalFold(before, "into") || equalFold(before, "tablesample") || equalFold(before, "ordinality") || !c.isKeyword(name.context)
	case TokenPunct:
		switch before[0] {
		case ')':
			return !c.callsBehind
		case ']':
			return true
		case ':':
			return string(before) == "::"
		case ',':
			return c.isCommonTable()
		}
	}
	return false
}

// isBehindKeyword reports whether the last word of a name stands behind one of the keywords that make it one.
func (c *classifier) isBehindKeyword(name chain) bool {
	before := callableWords[string(c.folded(name.last))]
	if name.context.Kind != TokenWord || before == "" {
		return false
	}
	for len(before) > 0 {
		word := before
		if i := strings.IndexByte(before, ' '); i >= 0 {
			word, before = before[:i], before[i+1:]
		} else {
			before = ""
		}
		if equalFold(c.text(name.context), word) {
			return true
		}
	}
	return false
}

// isCommonTable reports whether what begins with the parenthesis under the eye is (a, b) AS [[NOT] MATERIALIZED] (query:
// a function's result is described by AS (column type ...) instead.
func (c *classifier) isCommonTable() bool {
	lx := c.lx
	tok := lx.Next()
	for tok.Kind == TokenWord || tok.Kind == TokenQuoted || string(c.text(tok)) == "," {
		tok = lx.Next()
	}
	if string(c.text(tok)) != ")" || !equalFold(c.text(lx.Next()), "as") {
		return false
	}
	if tok = lx.Next(); equalFold(c.text(tok), "not") {
		tok = lx.Next()
	}
	if equalFold(c.text(tok), "materialized") {
		tok = lx.Next()
	}
	if string(c.text(tok)) != "(" {
		return false
	}
	first := c.text(lx.Next())
	return equalFold(first, "select") || equalFold(first, "with") || equalFold(first, "table") || string(first) == "(" ||
		equalFold(first, "values") && string(c.text(lx.Next())) == "("
}

// sharedArgument reports whether the literal behind current_setting( names a parameter that is the same everywhere.
func (c *classifier) sharedArgument() bool {
	lx := c.lx
	arg := lx.Next()
	var buf [64]byte
	if text := c.text(arg); arg.Kind != TokenString || !plainLiteral(text, c.lx.opts) || len(text) > len(buf) {
		return false
	}
	return sharedSetting(appendLiteral(buf[:0], c.text(arg)))
}

// setConfigAlone reads [pg_catalog.]set_config('name', 'value', true|false) [[AS] alias] as the whole select list. If
// it is not that, nothing has been read.
func (c *classifier) setConfigAlone() bool {
	if !c.word("set_config") && !c.word("pg_catalog") {
		return false
	}
	if c.word("pg_catalog") {
		lx := c.lx
		if end := int(c.tok.End); end+1 < len(c.sql) && c.sql[end] == '.' && byteClass[c.sql[end+1]]&byteIdentStart != 0 && c.sql[end+1]|0x20 != 's' {
			return false
		}
		if lx.Next(); !equalFold(c.text(lx.Next()), "set_config") {
			return false
		}
	}
	saved := *c
	if c.accept("pg_catalog") && c.punct('.') {
		c.next()
	}
	if !c.accept("set_config") || !c.punct('(') {
		*c = saved
		return false
	}
	name, value, local, ok := c.setConfigArguments()
	if !ok {
		*c = saved
		return false
	}
	c.accept("as")
	if !c.ended() {
		c.next()
	}
	if !c.ended() {
		*c = saved
		return false
	}
	c.v.Name, c.v.Value = name, value
	c.v.Command, c.v.Flags = CommandSet, State
	if local {
		c.v.Command, c.v.Flags = CommandSetLocal, LocalState
	}
	c.setSpecial()
	return true
}

// setConfigArguments reads ('name', 'value', true|false) from the opening parenthesis and moves past the closing one.
func (c *classifier) setConfigArguments() (name, value Span, local, ok bool) {
	literal := func() Span {
		c.next()
		if c.tok.Kind != TokenString || !plainLiteral(c.text(c.tok), c.lx.opts) {
			return Span{}
		}
		s := Span{c.tok.Start, c.tok.End}
		c.next()
		return s
	}
	if name = literal(); !name.Present() || !c.punct(',') {
		return name, value, false, false
	}
	if value = literal(); !value.Present() || !c.punct(',') {
		return name, value, false, false
	}
	c.next()
	local = c.word("true")
	if !local && !c.word("false") {
		return name, value, false, false
	}
	c.next()
	if !c.punct(')') {
		return name, value, false, false
	}
	c.next()
	return name, value, local, true
}

// setConfigInside notes a set_config( that is part of something larger: its last argument tells whether the change ends
// with the transaction; if that is not a plain true, the change cannot be carried.
func (c *classifier) setConfigInside() {
	lx := c.lx
	depth := 1
	var last, beforeLast Token
	for depth > 0 {
		tok := lx.Next()
		switch {
		case tok.Kind == TokenEnd || tok.Kind == TokenBad:
			depth = 0
		case tok.Kind == TokenPunct && c.sql[tok.Start] == '(':
			depth++
		case tok.Kind == TokenPunct && c.sql[tok.Start] == ')':
			depth--
		}
		if depth > 0 {
			beforeLast, last = last, tok
		}
	}
	if last.Kind == TokenWord && equalFold(c.text(last), "true") && string(c.text(beforeLast)) == "," {
		c.v.Flags |= LocalState
		return
	}
	c.v.Flags |= State | PinState
}
