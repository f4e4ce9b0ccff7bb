package router

import (
	"testing"
)

// FuzzLexer: tokens follow each other, within the text; a comment before the statement is read as a hint only if it is
// meant for us, and changes nothing else of the verdict.
func FuzzLexer(f *testing.F) {
	f.Add([]byte("select E'\\'' /* /* */ */ -- x\n, $a$ $b$ $a$, U&\"x\", 1.5e-3"), "walgate: target=replica consistency=eventual tag=a token=1-0/5", false)
	f.Add([]byte("select 'a\\' from b -- '"), "walgate:target=primary,consistency=strong", true)
	f.Add([]byte("begin"), "x", false)
	f.Fuzz(func(t *testing.T, sql []byte, comment string, backslash bool) {
		opts := Options{BackslashStrings: backslash}
		lx := NewLexer(sql, opts)
		for end, n := int32(0), 0; ; n++ {
			tok := lx.Next()
			if tok.Start < end || tok.End < tok.Start || int(tok.End) > len(sql) || n > len(sql)+1 {
				t.Fatalf("token %+v behind %d of %d", tok, end, len(sql))
			}
			if end = tok.End; tok.Kind == TokenEnd {
				break
			}
			if tok.End == tok.Start {
				t.Fatalf("empty token %+v", tok)
			}
		}
		h, ok := parseHint([]byte(comment), 0)
		if h != (Hint{}) && !ok {
			t.Fatalf("%q is no hint, but says %+v", comment, h)
		}
		for _, s := range []Span{h.Tag, h.Token} {
			if s.Start < 0 || s.End < s.Start || int(s.End) > len(comment) {
				t.Fatalf("%q: %+v", comment, h)
			}
		}
		checkHinted(t, sql, comment, opts)
	})
}

// checkHinted puts the comment before the statement.
func checkHinted(t *testing.T, sql []byte, comment string, opts Options) {
	for i := range len(comment) - 1 {
		if pair := comment[i : i+2]; pair == "/*" || pair == "*/" {
			return // it would not be one comment
		}
	}
	if len(comment) > 0 && (comment[0] == '/' || comment[len(comment)-1] == '*' || comment[len(comment)-1] == '/') {
		return
	}
	plain := Classify(sql, opts)
	before := "/*" + comment + "*/ "
	hinted := Classify(append([]byte(before), sql...), opts)
	want, meant := parseHint([]byte(comment), int32(len("/*")))
	if !meant {
		want = plain.Hint
		for _, s := range []*Span{&want.Tag, &want.Token} {
			if s.Present() {
				*s = Span{s.Start + int32(len(before)), s.End + int32(len(before))}
			}
		}
	}
	if hinted.Hint != want {
		t.Fatalf("%q before %q: hint %+v, want %+v", comment, sql, hinted.Hint, want)
	}
	if hinted.Kind != plain.Kind || hinted.Command != plain.Command || hinted.Flags != plain.Flags || hinted.Statements != plain.Statements {
		t.Fatalf("%q changes %q: %+v, without %+v", comment, sql, hinted, plain)
	}
}
