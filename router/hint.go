package router

// hintWord opens a comment that is meant for walgate.
const hintWord = "walgate:"

// readHint reads /* walgate: target=replica consistency=eventual tag=analytics token=1-0/3000148 */ at the beginning of
// sql. Unknown keys and values are ignored, other comments before it too.
func readHint(sql []byte) (hint Hint) {
	lx := NewLexer(sql, Options{})
	for lx.pos < len(sql) {
		at := lx.pos
		switch c := sql[at]; {
		case byteClass[c]&byteSpace != 0:
			lx.pos++
		case c == '-' && lx.peek(1) == '-':
			lx.lineComment()
		case c == '/' && lx.peek(1) == '*':
			if !lx.blockComment() {
				return hint
			}
			if h, ok := parseHint(sql[at+2:lx.pos-2], int32(at+2)); ok {
				return h
			}
		default:
			return hint
		}
	}
	return hint
}

// parseHint reads a comment that begins at the position start of the query string.
func parseHint(comment []byte, start int32) (hint Hint, ok bool) {
	word, rest := cutWord(comment)
	if !equalFold(word, hintWord) {
		return hint, false
	}
	for {
		if word, rest = cutWord(rest); len(word) == 0 {
			return hint, true
		}
		for i, c := range word {
			if c != '=' {
				continue
			}
			end := start + int32(len(comment)-len(rest))
			value := Span{end - int32(len(word)-i-1), end}
			switch key := word[:i]; {
			case equalFold(key, "target"):
				hint.Target = targetOf(word[i+1:])
			case equalFold(key, "consistency"):
				hint.Level = levelOf(word[i+1:])
			case equalFold(key, "tag"):
				hint.Tag = value
			case equalFold(key, "token"):
				hint.Token = value
			}
			break
		}
	}
}

// cutWord returns the first run of bytes that are neither white space nor commas, and what follows it.
func cutWord(text []byte) (word, rest []byte) {
	blank := func(c byte) bool { return byteClass[c]&byteSpace != 0 || c == ',' }
	start := 0
	for start < len(text) && blank(text[start]) {
		start++
	}
	end := start
	for end < len(text) && !blank(text[end]) {
		end++
	}
	return text[start:end], text[end:]
}
