package router

// AppendName appends the statement's name as PostgreSQL would see it: unquoted, folded to lower case unless quoted,
// parts joined by dots; SCHEMA, NAMES, TIME ZONE and the like become the parameter they stand for. It allocates only
// if dst must grow.
func (v Verdict) AppendName(dst, sql []byte) []byte {
	raw := v.Name.In(sql)
	if name := v.phrase(raw); name != "" {
		return append(dst, name...)
	}
	if len(raw) > 0 && (raw[0] == '\'' || raw[0] == 'n' || raw[0] == 'N') && raw[len(raw)-1] == '\'' {
		return appendLiteral(dst, raw)
	}
	lx := NewLexer(raw, Options{})
	for {
		switch tok := lx.Next(); tok.Kind {
		case TokenWord:
			dst = appendFolded(dst, raw[tok.Start:tok.End])
		case TokenQuoted:
			dst = appendUnquoted(dst, raw[tok.Start+1:tok.End-1], '"')
		case TokenPunct:
			dst = append(dst, '.')
		default:
			return dst
		}
	}
}

// phrase returns the parameter that a phrase of SET, RESET or SHOW stands for; empty for a plain name.
func (v Verdict) phrase(raw []byte) string {
	switch v.Command {
	case CommandSet, CommandSetLocal, CommandReset, CommandShow:
	default:
		return ""
	}
	if len(raw) == 0 {
		return ""
	}
	lx := NewLexer(raw, Options{})
	first := lx.Next()
	word := raw[first.Start:first.End]
	more := lx.Next().Kind == TokenWord
	switch {
	case first.Kind != TokenWord:
		return ""
	case more && equalFold(word, "time"):
		return "timezone"
	case more && equalFold(word, "xml"):
		return "xmloption"
	case more && equalFold(word, "transaction"):
		return "transaction_isolation"
	case more && equalFold(word, "session"):
		return "session_authorization"
	case !more && equalFold(word, "schema"):
		return "search_path"
	case !more && equalFold(word, "names"):
		return "client_encoding"
	}
	return ""
}

// NameIs reports whether the statement's name, normalised, is lower (given in lower case). It does not allocate.
// Names of parameters are case-insensitive even when quoted.
func (v Verdict) NameIs(sql []byte, lower string) bool {
	var buf [128]byte
	return equalFold(v.AppendName(buf[:0], sql), lower)
}

// AppendValue appends the value of SET, SET ROLE, SET SESSION AUTHORIZATION or set_config as set_config would take it:
// literals and identifiers unquoted, lists joined by ", ", with the elements of list parameters such as search_path
// quoted again where they must be. ok is false if the value is not plain (DEFAULT, INTERVAL, an escape string): then
// it has to be asked of the server.
func (v Verdict) AppendValue(dst, sql []byte, opts Options) (value []byte, ok bool) {
	raw := v.Value.In(sql)
	if v.Flags.Has(ValueDefault) || len(raw) == 0 {
		return dst, false
	}
	quoteList := v.quotesList(sql)
	lx := NewLexer(raw, opts)
	for first := true; ; first = false {
		tok := lx.Next()
		if tok.Kind == TokenEnd {
			return dst, !first
		}
		if !first {
			if tok.Kind != TokenPunct || raw[tok.Start] != ',' {
				return dst, false
			}
			dst = append(dst, ", "...)
			tok = lx.Next()
		}
		if dst, ok = appendElement(dst, raw, tok, &lx, quoteList); !ok {
			return dst, false
		}
	}
}

// appendElement appends one element of a SET value.
func appendElement(dst, raw []byte, tok Token, lx *Lexer, quoteList bool) ([]byte, bool) {
	at := len(dst)
	switch text := raw[tok.Start:tok.End]; tok.Kind {
	case TokenNumber:
		return append(dst, text...), true
	case TokenOperator:
		number := lx.Next()
		if number.Kind != TokenNumber || len(text) != 1 || text[0] != '-' && text[0] != '+' {
			return dst, false
		}
		if text[0] == '-' {
			dst = append(dst, '-')
		}
		return append(dst, raw[number.Start:number.End]...), true
	case TokenWord:
		dst = appendFolded(dst, text)
	case TokenQuoted:
		if text[0] != '"' {
			return dst, false
		}
		dst = appendUnquoted(dst, text[1:len(text)-1], '"')
	case TokenString:
		if !plainLiteral(text, lx.opts) {
			return dst, false
		}
		dst = appendLiteral(dst, text)
	default:
		return dst, false
	}
	if quoteList && !plainIdentifier(dst[at:]) {
		return requote(dst, at), true
	}
	return dst, true
}

// quotesList reports whether the parameter is one whose SET elements PostgreSQL quotes as identifiers
// (GUC_LIST_QUOTE in guc_tables.c). set_config takes the list as it is.
func (v Verdict) quotesList(sql []byte) bool {
	if v.Name.Present() && sql[v.Name.Start] == '\'' {
		return false
	}
	return v.NameIs(sql, "search_path") || v.NameIs(sql, "temp_tablespaces") ||
		v.NameIs(sql, "local_preload_libraries") || v.NameIs(sql, "session_preload_libraries") ||
		v.NameIs(sql, "unix_socket_directories") || v.NameIs(sql, "shared_preload_libraries")
}

// plainLiteral reports whether '...' stands for itself but for doubled quotes: one piece, no escapes.
func plainLiteral(text []byte, opts Options) bool {
	if len(text) < 2 || text[0] != '\'' {
		return false
	}
	for i := 1; i < len(text)-1; i++ {
		switch text[i] {
		case '\\':
			if opts.BackslashStrings {
				return false
			}
		case '\'':
			if i++; text[i] != '\'' || i == len(text)-1 {
				return false // a continuation on another line
			}
		}
	}
	return true
}

func plainIdentifier(text []byte) bool {
	if len(text) == 0 || text[0] >= '0' && text[0] <= '9' {
		return false
	}
	for _, c := range text {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	// Quoting a keyword that PostgreSQL would not quote changes nothing: lists are read back as identifiers.
	return true
}

// requote puts dst[at:] in double quotes, doubling those inside.
func requote(dst []byte, at int) []byte {
	inner := string(dst[at:])
	dst = append(dst[:at], '"')
	for i := range len(inner) {
		if inner[i] == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, inner[i])
	}
	return append(dst, '"')
}

func appendFolded(dst, word []byte) []byte {
	for _, c := range word {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func appendUnquoted(dst, inner []byte, quote byte) []byte {
	for i := 0; i < len(inner); i++ {
		dst = append(dst, inner[i])
		if inner[i] == quote {
			i++
		}
	}
	return dst
}

func appendLiteral(dst, raw []byte) []byte {
	if raw[0] != '\'' {
		raw = raw[1:]
	}
	return appendUnquoted(dst, raw[1:len(raw)-1], '\'')
}

// lowerByte folds ASCII letters.
var lowerByte = buildLowerBytes()

func buildLowerBytes() (table [256]byte) {
	for b := range table {
		table[b] = byte(b)
		if 'A' <= b && b <= 'Z' {
			table[b] += 'a' - 'A'
		}
	}
	return table
}

// equalFold compares ASCII letters without regard to case; lower must be in lower case.
func equalFold(text []byte, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i, c := range text {
		if lowerByte[c] != lower[i] {
			return false
		}
	}
	return true
}
