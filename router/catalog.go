package router

import (
	"bytes"
	"maps"
	"strings"
)

// Facts are what the catalog of one database, and the operator, say of names outside pg_catalog. All names are as the
// catalog stores them: unquoted, in their own case.
type Facts struct {
	// Volatile are the functions with at least one volatile overload, whatever its schema: which one a call means
	// depends on search_path and the types of its arguments, and neither is known here.
	Volatile []string
	// Stable are the functions all of whose overloads are stable or immutable.
	Stable []string
	// Impure are relations and types whose mere mention may run code or ask for what a standby does not have: views that
	// call volatile functions, unlogged and foreign tables, domains with volatile checks; and volatile functions of one
	// composite argument, which can be called as if they were columns.
	Impure []string
	// ImpureTypes are names that are impure only where they stand for a type: tables with a column whose domain runs code.
	ImpureTypes []string
	// Operators are the symbols of operators with a volatile function.
	Operators []string
	// Harmless are functions that the operator lets run on standbys though they are volatile.
	Harmless []string
	// PrimaryOnly are functions that the operator keeps on the primary whatever they are declared to be.
	PrimaryOnly []string
}

// Catalog knows the functions, relations and operators of one database as far as routing must. It is immutable and safe
// for concurrent use. A nil Catalog knows nothing but PostgreSQL's own functions.
type Catalog struct {
	functions map[string]funcClass
	impure    map[string]bool // true: only as a type
	operators map[string]struct{}
	// mask tells, as notable does, which words can be among impure; meaning is that and notable. called tells the same of
	// functions.
	mask, meaning, called *[256]uint64
	// last tells which words can be among impure by their last byte, in lower case: in most databases these are few.
	last *[256]uint64
}

// NewCatalog makes a Catalog. What several lists say of one name is settled in favour of the primary, except that
// Harmless wins over Volatile.
func NewCatalog(f Facts) *Catalog {
	c := &Catalog{functions: make(map[string]funcClass, len(f.Stable)+len(f.Volatile))}
	c.mask, c.meaning, c.called, c.last = new([256]uint64), new([256]uint64), new([256]uint64), new([256]uint64)
	for _, name := range f.Stable {
		if _, own := functions[name]; !own { // what PostgreSQL's own of that name is stays as it is
			c.functions[name] = funcPure
		}
	}
	for _, name := range f.Volatile {
		c.functions[name] = funcUnknown
	}
	for _, name := range f.Harmless {
		if harmlessByWill(functions[name]) {
			c.functions[name] = funcPure
		}
	}
	for _, name := range f.PrimaryOnly {
		c.functions[name] = funcUnknown
	}
	for _, symbol := range f.Operators {
		c.addOperator(symbol)
	}
	for _, name := range f.ImpureTypes {
		c.addImpure(name, true)
	}
	for _, name := range f.Impure {
		c.addImpure(name, false)
	}
	for i := range notable {
		c.meaning[i] = notable[i] | c.mask[i]
	}
	for name := range c.functions {
		addLength(c.called, name)
	}
	return c
}

// Wary returns a catalog that knows the same, but is not sure of relations: what reads any is a write.
func (c *Catalog) Wary() *Catalog {
	wary := *c
	wary.impure = maps.Clone(c.impure)
	wary.mask, wary.meaning, wary.last = new([256]uint64), new([256]uint64), new([256]uint64)
	*wary.mask, *wary.meaning, *wary.last = *c.mask, *c.meaning, *c.last
	for _, word := range []string{"from", "table"} {
		wary.addImpure(word, false)
		addLength(wary.meaning, word)
	}
	return &wary
}

func (c *Catalog) addImpure(name string, asType bool) {
	if name == "" {
		return
	}
	if c.impure == nil {
		c.impure = map[string]bool{}
	}
	c.impure[strings.Clone(name)] = asType
	addLength(c.mask, name)
	c.last[lowerByte[name[len(name)-1]]] |= 1 << min(len(name), 63)
}

// addLength notes the length of a name (63: and more) for both cases of its first byte.
func addLength(table *[256]uint64, name string) {
	if name == "" {
		return
	}
	first := name[0]
	table[first] |= 1 << min(len(name), 63)
	if 'a' <= first && first <= 'z' {
		table[first-'a'+'A'] |= 1 << min(len(name), 63)
	}
}

// mayBeImpure reports whether a word, quoted or not, may be among impure.
func (c *Catalog) mayBeImpure(word []byte) bool {
	if c == nil {
		return false
	}
	length := min(uint(len(word)), 63)
	return c.mask[word[0]]>>length&1 != 0 && (length == 63 || c.last[lowerByte[word[len(word)-1]]]>>length&1 != 0)
}

// addOperator adds a symbol, its other spelling, and the words of SQL that mean it.
func (c *Catalog) addOperator(symbol string) {
	if c.operators == nil {
		c.operators = map[string]struct{}{}
	}
	c.operators[strings.Clone(symbol)] = struct{}{}
	switch symbol {
	case "<>":
		c.operators["!="] = struct{}{}
		fallthrough
	case "=":
		for _, word := range []string{"in", "case", "nullif", "using", "natural", "distinct"} {
			c.addImpure(word, false)
		}
	case "<=", ">=":
		c.addImpure("between", false)
	case "~~", "!~~":
		c.addImpure("like", false)
	case "~~*", "!~~*":
		c.addImpure("ilike", false)
	case "~", "!~":
		c.addImpure("similar", false)
	}
}

// Mentions reports whether a text in any language – the body of a function – holds a word that a read may not hold. It
// knows neither the language's comments nor its strings: SQL stands inside them.
func (c *Catalog) Mentions(text []byte) bool {
	var folded [maxIdentifier + 1]byte
	for pos := 0; pos < len(text); {
		start := pos
		for pos < len(text) && byteClass[text[pos]]&byteIdent != 0 { // $ ends one: it may quote the text
			pos++
		}
		if pos == start {
			pos++
			continue
		}
		word := text[start:pos]
		if c.isSuspect(word) || len(word) <= maxIdentifier && c.isSuspect(appendFolded(folded[:0], word)) {
			return true
		}
	}
	for name := range c.impure {
		if !isWord(name) && bytes.Contains(text, []byte(name)) {
			return true
		}
	}
	return false
}

func isWord(name string) bool {
	for i := range len(name) {
		if byteClass[name[i]]&byteIdent == 0 {
			return false
		}
	}
	return true
}

// isSuspect reports whether a word names something that is no read, as far as one word tells.
func (c *Catalog) isSuspect(word []byte) bool {
	if _, found := c.impure[string(word)]; found || isNodeLocalRelation(word) {
		return true
	}
	if class, known := c.functions[string(word)]; known {
		return class != funcPure
	}
	switch classOf(word) {
	case funcUnknown, funcPure, funcSyntax, funcKeyword, funcWhere, funcCurrentSetting:
		return false
	default:
		return true
	}
}

// harmlessByWill reports whether the operator may declare a function of that class harmless. What leaves something on
// the server connection stays what it is: the pool depends on it.
func harmlessByWill(class funcClass) bool {
	switch class {
	case funcUnknown, funcPure, funcWhere, funcNodeLocal, funcVolatile:
		return true
	default:
		return false
	}
}

// classOf looks up a function's name as the catalog stores it. qualified says that the call names a schema other than
// pg_catalog, so that it can't mean PostgreSQL's own.
func (c *Catalog) classOf(name []byte, qualified bool) funcClass {
	if c != nil && len(name) > 0 && c.called[name[0]]>>min(uint(len(name)), 63)&1 != 0 {
		if class, known := c.functions[string(name)]; known {
			return class
		}
	}
	if qualified {
		return funcUnknown
	}
	return classOf(name)
}

// isImpureOperator reports whether the mere mention of an operator keeps a statement on the primary.
func (c *Catalog) isImpureOperator(symbol []byte) bool {
	if c == nil || c.operators == nil {
		return false
	}
	_, found := c.operators[string(symbol)]
	return found
}
