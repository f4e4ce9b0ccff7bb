package router

import "strings"

// quickNames are the names of functions and keywords with which a call surely means nothing to a body, each in the slot of
// its key: most calls need no other look. Where two share a slot the common ones, which come first, are found.
var quickNames = buildQuickNames()

// quickName is a name, and whether it is a keyword: such can't stand behind a dot.
type quickName struct {
	name    string
	keyword bool
}

const quickSlots = 1 << 13

// commonCalls are those that have their slots before all others.
const commonCalls = `in count sum min max avg any all exists and or not on as from coalesce lower upper now date_trunc extract cast values
using array_agg json_agg jsonb_agg jsonb_build_object json_build_object to_char format_type pg_get_expr col_description length
substring trim round abs greatest least nullif string_agg array row_number rank lag lead version current_schema position concat`

func buildQuickNames() (table [quickSlots]quickName) {
	add := func(name string) {
		class := functions[name]
		if at := quickKey([]byte(name)); table[at].name == "" && (class == funcPure || class == funcSyntax) {
			table[at] = quickName{name, class == funcSyntax}
		}
	}
	for name := range strings.FieldsSeq(commonCalls) {
		add(name)
	}
	for _, list := range [...]string{alsoPure, syntaxWords, builtinText} {
		for name := range strings.FieldsSeq(list) {
			add(name)
		}
	}
	return table
}

// knownNames has a bit for the hash of each name in functions: most names of users' own need no other look.
var knownNames = buildKnownNames()

func buildKnownNames() (table [1 << 16 / 64]uint64) {
	for name := range functions {
		at := nameHash([]byte(name)) >> 16
		table[at/64] |= 1 << (at % 64)
	}
	return table
}

// mayBeKnown reports whether a word that is not empty may be in functions.
func mayBeKnown(word []byte) bool {
	at := nameHash(word) >> 16
	return knownNames[at/64]>>(at%64)&1 != 0
}

func quickKey(word []byte) uint32 { return nameHash(word) >> 19 }

// nameHash mixes some bytes of a word, without regard to case.
func nameHash(word []byte) uint32 {
	n := len(word)
	a := uint32(word[0]) | uint32(word[n-1])<<8 | uint32(word[n/2])<<16 | uint32(word[n/4])<<24
	b := uint32(word[n*3/4]) | uint32(word[n/3])<<8
	return (a|0x20202020)*0x9e3779b1 ^ (b|0x2020)*0x85ebca6b ^ uint32(n)*0xc2b2ae35
}

// callsQuick reports whether a call of the function with that unquoted, unqualified name surely means nothing to a body.
func (c *Catalog) callsQuick(word []byte) bool {
	name := quickNames[quickKey(word)].name
	return equalFold(word, name) && (c == nil || c.called[name[0]]>>min(uint(len(name)), 63)&1 == 0)
}

// ownQuick reports the same of a function of pg_catalog.
func ownQuick(word []byte) bool {
	q := &quickNames[quickKey(word)]
	return !q.keyword && equalFold(word, q.name)
}
