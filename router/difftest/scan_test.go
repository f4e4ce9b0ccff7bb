package difftest

import (
	"fmt"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"github.com/walgate/walgate/router"
)

// seeds are texts at which scanners go wrong; the corpus adds statements.
var seeds = []string{
	"select 1;;select 2", "select E'a\\'b' 'c'", "select 'a'\n'b'", "select 'a' -- x\n 'b'", "select 'a' /* x */\n 'b'",
	"select $$a$$, $t$ $$ $t$, $1, $1x, a$b$c", "select 1a", "select 1..2, 1.5e3, .5, 1.e2, 1e, 0x1F, 1_000, 0b01, 0o17",
	"select a===-1, b<>-1, c@-1, d*-+1, e+-1, f=-/*x*/1, g<--x\n1, h@/**/2", "select a->>'b', a#>>'{}', a::int, :x, a:=b, a=>b",
	"select U&\"a\" uescape '!', U&'\\0061', u&'x' , N'x', b'1', X'1f'", "/* /* */ */ select \"a\"\"b\"", "select 'a''b'",
	"create rule r as on insert to t do (select 1; select 2); select 3", "select {", "select \\ 1", "select a ? b, a ?| b", "$", "$a", "$a$b",
	"create function f() returns int begin atomic select 1; select 2; end; select 1", "select 'a'\r\n'b'", "select \xff1, \"\xc3\"",
}

func addSeeds(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	for i, s := range statements(f) {
		if i%7 == 0 { // the rest would only slow the start
			f.Add(s.Text)
		}
	}
}

// FuzzScan holds that router's Lexer cuts text into the tokens that PostgreSQL's scanner sees.
func FuzzScan(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, sql string) {
		if strings.IndexByte(sql, 0) >= 0 {
			t.Skip()
		}
		if diff := compareTokens(sql); diff != "" {
			t.Fatalf("%q: %s", sql, diff)
		}
	})
}

// compareTokens tells the first difference; "" when there is none. What PostgreSQL can't scan only has to be a text that
// fails everywhere: nothing is asked of it.
func compareTokens(sql string) string {
	result, err := pg.Scan(sql)
	if err != nil {
		return ""
	}
	lx := router.NewLexer([]byte(sql), router.Options{})
	var inside int32
	for _, theirs := range result.Tokens {
		if theirs.Token == pg.Token_SQL_COMMENT || theirs.Token == pg.Token_C_COMMENT {
			continue
		}
		text := sql[theirs.Start:theirs.End]
		if theirs.Start < inside {
			if theirs.End != inside {
				return fmt.Sprintf("%v at %d does not end at %d", theirs.Token, theirs.Start, inside)
			}
			continue
		}
		want := kindOf(theirs, text)
		ours := lx.Next()
		if ours.Kind == router.TokenBad && !strings.Contains("~!@#^&|`?+-*/%<>=,()[].;:$\"'", text[:1]) && want == router.TokenPunct {
			return "" // a byte that no statement may hold ends our input
		}
		if theirs.Token == pg.Token_NCHAR && theirs.End == theirs.Start+1 && ours.Kind == router.TokenString && ours.Start == theirs.Start {
			inside = ours.End // N'...' is a keyword and a string to them
			continue
		}
		if ours.Kind != want || ours.Start != theirs.Start {
			return fmt.Sprintf("%v at %d is %d at %d to us", theirs.Token, theirs.Start, ours.Kind, ours.Start)
		}
		for ours.End < theirs.End && splits(theirs) { // what we cut further
			next := lx.Next()
			if next.Start != ours.End {
				return fmt.Sprintf("%v at %d: a gap at %d", theirs.Token, theirs.Start, ours.End)
			}
			ours = next
		}
		if want == router.TokenString && ours.End > theirs.End && strings.Contains(sql[theirs.End:ours.End], "--") {
			return "" // a comment may stand before the rest of a string; their copy of the scanner has lost that
		}
		if ours.End != theirs.End {
			return fmt.Sprintf("%v at %d ends at %d, at %d to us", theirs.Token, theirs.Start, theirs.End, ours.End)
		}
	}
	if last := lx.Next(); last.Kind != router.TokenEnd {
		return fmt.Sprintf("a token of kind %d at %d that they don't have", last.Kind, last.Start)
	}
	return ""
}

// splits reports whether a token of theirs may be several of ours: that is what we do to numbers with letters.
func splits(t *pg.ScanToken) bool { return t.Token == pg.Token_ICONST || t.Token == pg.Token_FCONST }

func kindOf(t *pg.ScanToken, text string) router.TokenKind {
	switch t.Token {
	case pg.Token_IDENT, pg.Token_UIDENT:
		if text[0] == '"' || t.Token == pg.Token_UIDENT {
			return router.TokenQuoted
		}
		return router.TokenWord
	case pg.Token_SCONST, pg.Token_USCONST, pg.Token_BCONST, pg.Token_XCONST:
		return router.TokenString
	case pg.Token_ICONST, pg.Token_FCONST:
		return router.TokenNumber
	case pg.Token_PARAM:
		return router.TokenParam
	}
	if t.KeywordKind != pg.KeywordKind_NO_KEYWORD {
		return router.TokenWord
	}
	if strings.Contains("~!@#^&|`?+-*/%<>=", text[:1]) {
		return router.TokenOperator
	}
	return router.TokenPunct
}

// TestCorpusTokens compares all statements of the corpus, and that the comparison can fail.
func TestCorpusTokens(t *testing.T) {
	for _, s := range texts(t) {
		if strings.IndexByte(s, 0) >= 0 {
			continue
		}
		if diff := compareTokens(s); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
	}
}

func texts(t *testing.T) []string {
	all := seeds
	for _, s := range statements(t) {
		all = append(all, s.Text)
	}
	return all
}
