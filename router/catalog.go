package router

import "strings"

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
	impure    map[string]struct{}
	operators map[string]struct{}
	// mask tells, as notable does, which words can be among impure; nil: none.
	mask *[256]uint64
}

// NewCatalog makes a Catalog. What several lists say of one name is settled in favour of the primary, except that
// Harmless wins over Volatile.
func NewCatalog(f Facts) *Catalog {
	c := &Catalog{functions: make(map[string]funcClass, len(f.Stable)+len(f.Volatile))}
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
	c.impure = setOf(f.Impure)
	c.operators = setOf(f.Operators)
	for name := range c.impure {
		if c.mask == nil {
			c.mask = new([256]uint64)
		}
		first := name[0]
		c.mask[first] |= 1 << min(len(name), 63)
		if 'a' <= first && first <= 'z' {
			c.mask[first-'a'+'A'] |= 1 << min(len(name), 63)
		}
	}
	return c
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

func setOf(names []string) map[string]struct{} {
	if len(names) == 0 {
		return nil
	}
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		if name != "" {
			set[strings.Clone(name)] = struct{}{}
		}
	}
	return set
}

// classOf looks up a function's name as the catalog stores it. qualified says that the call names a schema other than
// pg_catalog, so that it can't mean PostgreSQL's own.
func (c *Catalog) classOf(name []byte, qualified bool) funcClass {
	if c != nil {
		if class, known := c.functions[string(name)]; known {
			return class
		}
	}
	if qualified {
		return funcUnknown
	}
	return classOf(name)
}

// isImpure reports whether the mere mention of the name keeps a statement on the primary.
func (c *Catalog) isImpure(name []byte) bool {
	if c == nil || c.impure == nil {
		return false
	}
	_, found := c.impure[string(name)]
	return found
}

// isImpureOperator does the same for an operator's symbol.
func (c *Catalog) isImpureOperator(symbol []byte) bool {
	if c == nil || c.operators == nil {
		return false
	}
	_, found := c.operators[string(symbol)]
	return found
}
