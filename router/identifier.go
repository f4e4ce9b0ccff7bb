package router

import (
	"bytes"
	_ "embed" // for the list of keywords
	"strings"
	"unicode/utf8"
)

// maxIdentifier is how many bytes PostgreSQL keeps of an identifier (NAMEDATALEN - 1).
const maxIdentifier = 63

//go:embed keywords.txt
var keywordText string

var keywords = buildKeywords(keywordText)

func buildKeywords(text string) map[string]struct{} {
	_, text, _ = strings.Cut(text, "\n") // the first line is a comment
	set := make(map[string]struct{}, 512)
	for word := range strings.FieldsSeq(text) {
		set[word] = struct{}{}
	}
	return set
}

// isKeyword reports whether a word, unquoted, may be a keyword.
func (c *classifier) isKeyword(t Token) bool {
	_, found := keywords[string(c.folded(t))]
	return found
}

// identifier returns what a word or quoted identifier names, as the catalog stores it; valid until the next call. ok is
// false when that can't be told here: the name is empty, too long, or spelled with escapes that say nothing.
func (c *classifier) identifier(t Token) (name []byte, ok bool) {
	text := c.text(t)
	switch {
	case t.Kind == TokenWord:
		return c.folded(t), len(text) <= maxIdentifier
	case text[0] != '"':
		return c.decode(text[len(`U&"`):len(text)-1], c.escapeOf(t))
	}
	inner := text[1 : len(text)-1]
	if bytes.IndexByte(inner, '"') >= 0 {
		if len(inner) > len(c.buf) {
			return nil, false
		}
		inner = appendUnquoted(c.buf[:0], inner, '"')
	}
	return inner, len(inner) > 0 && len(inner) <= maxIdentifier
}

// escapeOf returns the escape character of U&"...": a backslash unless UESCAPE names another.
func (c *classifier) escapeOf(t Token) byte {
	lx := c.lx
	lx.pos = int(t.End)
	if word := lx.Next(); word.Kind != TokenWord || !equalFold(c.text(word), "uescape") {
		return '\\'
	}
	if literal := c.text(lx.Next()); len(literal) == len("'!'") && literal[0] == '\'' {
		return literal[1]
	}
	return '\\'
}

// skipEscape moves the Lexer past UESCAPE '!' behind U&"...", which stays under the eye.
func (c *classifier) skipEscape() {
	if c.sql[c.tok.Start] == '"' {
		return
	}
	lx := c.lx
	if word := lx.Next(); word.Kind == TokenWord && equalFold(c.text(word), "uescape") && lx.Next().Kind == TokenString {
		c.lx = lx
	}
}

// decode reads the inner text of U&"...": \0061, \+000061, and doubled quotes and escapes.
func (c *classifier) decode(inner []byte, escape byte) (name []byte, ok bool) {
	name = c.buf[:0]
	for i := 0; i < len(inner); i++ {
		if len(name)+utf8.UTFMax > len(c.buf) {
			return nil, false
		}
		b := inner[i]
		if b == '"' || b == escape && i+1 < len(inner) && inner[i+1] == escape {
			i++
		} else if b == escape {
			digits := 4
			if i++; i < len(inner) && inner[i] == '+' {
				i, digits = i+1, 6
			}
			r, valid := hexRune(inner[min(i, len(inner)):], digits)
			if !valid {
				return nil, false
			}
			name = utf8.AppendRune(name, r)
			i += digits - 1
			continue
		}
		name = append(name, b)
	}
	return name, len(name) > 0
}

func hexRune(text []byte, digits int) (r rune, ok bool) {
	if len(text) < digits {
		return 0, false
	}
	for _, b := range text[:digits] {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b|0x20 && b|0x20 <= 'f':
			b = (b | 0x20) - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(b)
	}
	return r, utf8.ValidRune(r) && r != 0
}
