package hba

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"
)

// names is a list of databases or users, of which one must fit.
type names []name

type name struct {
	text    string
	keyword bool           // text is all, sameuser or replication
	pattern *regexp.Regexp // of a name that began with a slash
}

// parseNames reads a field. words are the keywords that are allowed; what says what the names are of.
func (l *line) parseNames(field []token, what string, words ...string) (names, error) {
	list := make(names, 0, len(field))
	for _, t := range field {
		if t.quoted {
			list = append(list, name{text: t.text})
			continue
		}
		n := name{text: t.text}
		for _, word := range words {
			n.keyword = n.keyword || t.text == word
		}
		switch {
		case n.keyword:
		case t.text == "samerole" || t.text == "samegroup":
			return nil, l.failf("%s %q: who is a member of a role is not known to the proxy; name the databases", what, t.text)
		case strings.HasPrefix(t.text, "+"):
			return nil, l.failf("%s %q: who is a member of a role is not known to the proxy; name the users, or use a /pattern", what, t.text)
		case strings.HasPrefix(t.text, "@"):
			return nil, l.failf("%s %q: lists in files are not supported; name them here, or use include", what, t.text)
		case strings.HasPrefix(t.text, "/"):
			pattern, err := regexp.Compile(t.text[1:])
			if err != nil {
				return nil, l.failf("%s %q: %v", what, t.text, err)
			}
			n.pattern = pattern
		}
		list = append(list, n)
	}
	return list, nil
}

// databases reports whether one of the names fits the database that a client asks for.
func (n names) databases(c *Client) bool {
	for _, one := range n {
		switch {
		case one.keyword && one.text == "replication":
			if c.Replication {
				return true
			}
		case c.Replication: // physical replication is of no database, and only the keyword fits it
		case one.keyword && one.text == "sameuser":
			if c.Database == c.User {
				return true
			}
		case one.fits(c.Database):
			return true
		}
	}
	return false
}

func (n names) users(user string) bool {
	for _, one := range n {
		if one.fits(user) {
			return true
		}
	}
	return false
}

func (n *name) fits(text string) bool {
	switch {
	case n.keyword: // all
		return true
	case n.pattern != nil:
		return n.pattern.MatchString(text)
	}
	return n.text == text
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
