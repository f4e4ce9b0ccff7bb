package session

import "unicode/utf8"

// edit is one replacement in a statement's text, in characters: at is where the new words begin in the text as it is after
// this edit and those before it.
type edit struct{ at, sent, asked int }

// edits lead from the text that a client sent to the one that the server got, in the order in which they were made.
type edits []edit

// asked returns the place in the client's text of a place in the server's; both count from 1.
func (e edits) asked(position int) int {
	for i := len(e) - 1; i >= 0; i-- {
		switch x := e[i]; {
		case position <= x.at:
		case position <= x.at+x.sent:
			position = x.at + 1
		default:
			position += x.asked - x.sent
		}
	}
	return position
}

// editor replaces parts of a text, from its beginning to its end.
type editor struct {
	text  []byte
	out   []byte
	done  int // bytes of text that are in out
	chars int // characters in out
	edits edits
}

func (e *editor) replace(start, end int, with string) {
	before := e.text[e.done:start]
	at := e.chars + utf8.RuneCount(before)
	e.out = append(append(e.out, before...), with...)
	sent := utf8.RuneCountInString(with)
	e.edits = append(e.edits, edit{at: at, sent: sent, asked: utf8.RuneCount(e.text[start:end])})
	e.done, e.chars = end, at+sent
}

// changed reports whether anything was replaced.
func (e *editor) changed() bool { return e.out != nil }

// finish returns the new text; nil if it is the old one.
func (e *editor) finish() []byte {
	if !e.changed() {
		return nil
	}
	return append(e.out, e.text[e.done:]...)
}
