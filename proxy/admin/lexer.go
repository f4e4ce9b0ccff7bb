package admin

import "strings"

type kind uint8

const (
	word   kind = iota // letters, digits and _.-$@ as they stand
	quoted             // in double or single quotes
	symbol             // any other character
)

type token struct {
	kind kind
	text string
}

// maxWords bounds the tokens of one command; no command has as many.
const maxWords = 32

// lexer cuts a text into commands.
type lexer struct {
	text string
	at   int
}

// statement returns the tokens up to the next semicolon or the end; none means that the statement was empty.
func (l *lexer) statement() ([]token, error) {
	var words []token
	for {
		if err := l.space(); err != nil {
			return nil, err
		}
		if l.at >= len(l.text) {
			return words, nil
		}
		c := l.text[l.at]
		if c == ';' {
			l.at++
			if len(words) > 0 || l.at >= len(l.text) {
				return words, nil
			}
			continue
		}
		t, err := l.token(c)
		if err != nil {
			return nil, err
		}
		if len(words) == maxWords {
			return nil, &SyntaxError{Message: "the command is too long"}
		}
		words = append(words, t)
	}
}

// token takes the token that begins with c.
func (l *lexer) token(c byte) (token, error) {
	switch {
	case c == '"' || c == '\'':
		return l.quoted(c)
	case inWord(c):
		start := l.at
		for l.at < len(l.text) && inWord(l.text[l.at]) && !strings.HasPrefix(l.text[l.at:], "--") {
			l.at++
		}
		return token{word, l.text[start:l.at]}, nil
	default:
		l.at++
		return token{symbol, string(c)}, nil
	}
}

// quoted takes a quoted text; the quote stands in it when doubled.
func (l *lexer) quoted(quote byte) (token, error) {
	var text strings.Builder
	for i := l.at + 1; i < len(l.text); i++ {
		switch {
		case l.text[i] != quote:
			text.WriteByte(l.text[i])
		case i+1 < len(l.text) && l.text[i+1] == quote:
			text.WriteByte(quote)
			i++
		default:
			l.at = i + 1
			return token{quoted, text.String()}, nil
		}
	}
	return token{}, &SyntaxError{Message: "unterminated quoted text"}
}

// space skips white space and comments.
func (l *lexer) space() error {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.ContainsRune(" \t\r\n\v\f", rune(rest[0])):
			l.at++
		case strings.HasPrefix(rest, "--"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			l.at += end
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return &SyntaxError{Message: "unterminated comment"}
			}
			l.at += end + 4
		default:
			return nil
		}
	}
	return nil
}

// inWord reports whether c may stand in an unquoted word. Database names with dots and dashes need no quotes, as in
// PgBouncer's console; bytes above ASCII are letters.
func inWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == '$' ||
		c == '@' || c >= 0x80
}
