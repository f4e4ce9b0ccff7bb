package hba

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// Bounds of what is read.
const (
	MaxFile    = 1 << 20 // bytes of one file
	maxLines   = 10_000  // with content, included files together
	maxInclude = 10      // depth
)

// Open reads a file that an include directive names.
type Open func(path string) ([]byte, error)

// token is a word of a line.
type token struct {
	text   string
	quoted bool // it began with a quote: not a keyword
}

// line is one logical line: fields, each a list of words that commas separate.
type line struct {
	file   string
	number int
	fields [][]token
}

// Error says what is wrong with a line.
type Error struct {
	File string
	Line int
	Text string
}

// Error names file and line.
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

func (l *line) failf(format string, args ...any) error {
	return &Error{File: l.file, Line: l.number, Text: fmt.Sprintf(format, args...)}
}

// reader collects the lines of a file and of those that it includes.
type reader struct {
	open  Open
	lines []line
}

// read appends the lines of a file. open may be nil: then nothing can be included.
func (r *reader) read(file string, content []byte, depth int) error {
	if len(content) > MaxFile {
		return &Error{File: file, Line: 1, Text: fmt.Sprintf("the file is larger than %d bytes", MaxFile)}
	}
	number, start := 0, 0
	var joined []byte
	for raw := range bytes.Lines(content) {
		number++
		if len(joined) == 0 {
			start = number
		}
		raw = bytes.TrimRight(raw, "\r\n")
		if more, ok := bytes.CutSuffix(raw, []byte(`\`)); ok { // the line goes on
			joined = append(append(joined, more...), ' ')
			continue
		}
		l := line{file: file, number: start}
		if err := l.split(string(append(joined, raw...))); err != nil {
			return err
		}
		joined = joined[:0]
		if err := r.add(l, depth); err != nil {
			return err
		}
	}
	if len(joined) > 0 {
		return &Error{File: file, Line: start, Text: `the last line ends with \`}
	}
	return nil
}

// add keeps a line or follows its include directive.
func (r *reader) add(l line, depth int) error {
	switch {
	case len(l.fields) == 0:
		return nil
	case l.word(0) != "include" && l.word(0) != "include_if_exists" && l.word(0) != "include_dir":
		if r.lines = append(r.lines, l); len(r.lines) > maxLines {
			return l.failf("more than %d lines", maxLines)
		}
		return nil
	case l.word(0) == "include_dir":
		return l.failf("include_dir is not supported; allowed: include, include_if_exists")
	case len(l.fields) != 2 || len(l.fields[1]) != 1:
		return l.failf("%s needs the name of one file", l.word(0))
	case r.open == nil || depth == maxInclude:
		return l.failf("files may not be included here (at most %d deep, and only from files)", maxInclude)
	}
	path := l.fields[1][0].text
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.file), path)
	}
	content, err := r.open(path)
	if err != nil {
		if l.word(0) == "include_if_exists" && missing(err) {
			return nil
		}
		return l.failf("include: %v", err)
	}
	return r.read(path, content, depth+1)
}

// word returns the text of a field that is one unquoted word, else "".
func (l *line) word(field int) string {
	if field >= len(l.fields) || len(l.fields[field]) != 1 || l.fields[field][0].quoted {
		return ""
	}
	return l.fields[field][0].text
}

// split cuts the text into fields. Quotes keep blanks, commas and # together; "" inside quotes is a quote.
func (l *line) split(text string) error {
	if strings.IndexByte(text, 0) >= 0 {
		return l.failf("the line holds a zero byte")
	}
	i := 0
	joined := false // the word belongs to the field before it
	for {
		for i < len(text) && isBlank(text[i]) {
			i++
		}
		if i == len(text) || text[i] == '#' {
			if joined {
				return l.failf("the line ends with a comma")
			}
			return nil
		}
		if text[i] == ',' {
			if len(l.fields) == 0 || joined {
				return l.failf("a name is expected before the comma")
			}
			i, joined = i+1, true
			continue
		}
		word, n, ok := cutWord(text[i:])
		if !ok {
			return l.failf("a quote is not closed")
		}
		i += n
		if joined {
			last := len(l.fields) - 1
			l.fields[last] = append(l.fields[last], word)
		} else {
			l.fields = append(l.fields, []token{word})
		}
		joined = false
	}
}

// cutWord cuts the word at the beginning of text and says how long it was.
func cutWord(text string) (word token, n int, ok bool) {
	word.quoted = text[0] == '"'
	var out []byte
	inside := false
	for n < len(text) {
		c := text[n]
		switch {
		case c == '"' && inside && n+1 < len(text) && text[n+1] == '"':
			out = append(out, '"')
			n++
		case c == '"':
			inside = !inside
		case !inside && (isBlank(c) || c == ',' || c == '#'):
			word.text = string(out)
			return word, n, true
		default:
			out = append(out, c)
		}
		n++
	}
	word.text = string(out)
	return word, n, !inside
}

func isBlank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'
}
