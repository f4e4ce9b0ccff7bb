package corpus

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed testdata
var files embed.FS

// Want is what is known of a statement.
type Want uint8

// What is known: see testdata/README.
const (
	Read    Want = iota // must run on a standby
	Primary             // must not
	Danger              // must not, and no test may run it anywhere
	Shown               // may run anywhere, but answers differently on purpose: it tells where it runs
	Either              // may run anywhere: it is no plain read, but harmless
)

// Statement is one text, with what is known of it and where it stands.
type Statement struct {
	Text  string
	Want  Want
	Place string // file:line
}

// Schema returns the definitions that the statements are about, for a superuser.
func Schema() (string, error) {
	text, err := files.ReadFile("testdata/schema.sql")
	return string(text), err
}

// Statements returns all of them, in the order of the files.
func Statements() (all []Statement, err error) {
	entries, err := files.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() == "schema.sql" || !strings.HasSuffix(e.Name(), ".sql") {
			continue
		}
		text, err := files.ReadFile("testdata/" + e.Name())
		if err != nil {
			return nil, err
		}
		if all, err = parse(all, e.Name(), string(text)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

var sections = map[string]Want{"read": Read, "primary": Primary, "danger": Danger, "shown": Shown, "either": Either}

// parse reads one file.
func parse(all []Statement, name, text string) ([]Statement, error) {
	want, known := Read, false
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		place := fmt.Sprintf("%s:%d", name, number)
		switch {
		case line == "" || strings.HasPrefix(line, "# "):
			continue
		case strings.HasPrefix(line, "#: "):
			if want, known = sections[line[3:]]; !known {
				return nil, fmt.Errorf("%s: unknown section %q", place, line[3:])
			}
			continue
		case !known:
			return nil, fmt.Errorf("%s: a statement before the first section", place)
		}
		for _, one := range expand(line) {
			if strings.HasPrefix(one, `"`) {
				plain, err := strconv.Unquote(one)
				if err != nil {
					return nil, fmt.Errorf("%s: unquote %s: %w", place, one, err)
				}
				one = plain
			}
			all = append(all, Statement{Text: one, Want: want, Place: place})
		}
	}
	return all, nil
}

// expand returns all that the alternatives «a¦b» of a line stand for.
func expand(line string) []string {
	before, rest, found := strings.Cut(line, "«")
	if !found {
		return []string{line}
	}
	choices, after, _ := strings.Cut(rest, "»")
	var all []string
	for _, tail := range expand(after) {
		for choice := range strings.SplitSeq(choices, "¦") {
			all = append(all, before+choice+tail)
		}
	}
	return all
}
