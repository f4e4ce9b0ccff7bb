package session

import "strings"

const settingDateStyle = "datestyle"

// wholeDateStyle completes a new value of DateStyle, which has two halves – a style and an order – and keeps the one that
// is not set: carried to another server, half a value would mean something else there.
func (s *Session) wholeDateStyle(value string) string {
	style, order := dateStyle(value)
	if style == "" && order == "" {
		return value // no value that PostgreSQL takes
	}
	before, _ := s.settings.reads().value(settingDateStyle)
	reported, _ := s.srv.Reported("DateStyle")
	for _, text := range [...]string{before, reported} {
		oldStyle, oldOrder := dateStyle(text)
		if style == "" {
			style = oldStyle
		}
		if order == "" {
			order = oldOrder
		}
	}
	if style == "" || order == "" {
		return value
	}
	return style + ", " + order
}

// dateStyle reads the halves of a DateStyle (check_datestyle in src/backend/commands/variable.c); empty ones are not
// there, or not known.
func dateStyle(value string) (style, order string) {
	for word := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		word = strings.ToLower(strings.Trim(word, `"'`))
		switch {
		case word == "iso", word == "sql", strings.HasPrefix(word, "postgres"):
			style = word
		case word == "german":
			style = word
			if order == "" {
				order = "dmy"
			}
		case word == "ymd":
			order = word
		case word == "dmy", strings.HasPrefix(word, "euro"):
			order = "dmy"
		case word == "mdy", word == "us", strings.HasPrefix(word, "noneuro"):
			order = "mdy"
		}
	}
	return style, order
}
