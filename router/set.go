package router

// set reads what follows SET.
func (c *classifier) set() {
	c.v.Command, c.v.Flags = CommandSet, State
	switch {
	case c.word("session"):
		c.next()
		switch {
		case c.accept("authorization"):
			c.setAuthorization()
			return
		case c.accept("characteristics"):
			c.accept("as")
			c.accept("transaction")
			c.v.Command = CommandSetSessionTx
			c.txModes()
			return
		}
	case c.accept("local"):
		c.v.Command, c.v.Flags = CommandSetLocal, LocalState
	case c.accept("constraints"):
		c.v.Flags = LocalState
		c.plain(CommandSetConstraints)
		return
	}
	switch {
	case c.accept("session"): // SET [SESSION | LOCAL] SESSION AUTHORIZATION
		c.accept("authorization")
		c.setAuthorization()
	case c.accept("transaction"):
		c.v.Command, c.v.Flags = CommandSetTx, LocalState
		c.txModes()
	default:
		c.setParameter()
	}
}

func (c *classifier) setAuthorization() {
	c.v.Command = CommandSetSessionAuth
	c.setValue()
}

// setParameter reads the parameter's name, in all its spellings, and its value.
func (c *classifier) setParameter() {
	start := c.tok.Start
	switch {
	case c.word("time"), c.word("xml"):
		time := c.word("time")
		c.next()
		if time && c.word("zone") || c.word("option") {
			c.next()
			c.v.Name = Span{start, c.prev.End}
			c.setValue()
			return
		}
		c.v.Name = Span{start, c.prev.End}
	case c.word("schema"), c.word("names"):
		c.next()
		c.v.Name = Span{start, c.prev.End}
		if !c.punctOrTo() {
			c.setValue()
			return
		}
	case c.word("role"):
		c.next()
		c.v.Name = Span{start, c.prev.End}
		if !c.punctOrTo() {
			if c.v.Command != CommandSetLocal {
				c.v.Command = CommandSetRole
			}
			c.setValue()
			return
		}
	case c.tok.Kind == TokenQuoted && c.sql[start] != '"': // U&"..." is not read here
		c.v.Command, c.v.Flags = CommandOther, c.v.Flags|PinState
		c.skip()
		return
	default:
		c.v.Name = c.name()
	}
	if c.accept("from") {
		c.v.Flags |= ValueDefault // FROM CURRENT has no value of its own
		c.skip()
		return
	}
	if !c.punctOrTo() {
		c.skip() // no SET that PostgreSQL knows
		return
	}
	c.next()
	c.setValue()
	c.setSpecial()
	c.setPlaceholder()
}

// setPlaceholder notes a parameter that the server may know only as long as a library has not been loaded: PL/pgSQL, which
// any statement may load, removes those of its name that are not its own.
func (c *classifier) setPlaceholder() {
	const prefix = "plpgsql."
	var buf [64]byte
	name := c.v.AppendName(buf[:0], c.sql)
	if c.v.Command == CommandSet && len(name) > len(prefix) && equalFold(name[:len(prefix)], prefix) &&
		!plpgsqlSettings[string(appendFolded(name[:0], name[len(prefix):]))] {
		c.v.Flags |= PinState
	}
}

var plpgsqlSettings = map[string]bool{
	"check_asserts": true, "extra_errors": true, "extra_warnings": true, "print_strict_params": true, "variable_conflict": true,
}

// punctOrTo reports whether = or TO stands here.
func (c *classifier) punctOrTo() bool {
	return c.word("to") || c.tok.Kind == TokenOperator && string(c.text(c.tok)) == "="
}

func (c *classifier) setValue() {
	single := c.tok
	c.v.Value = c.rest()
	if c.v.Value != (Span{single.Start, single.End}) || single.Kind != TokenWord {
		return
	}
	switch text := c.text(single); {
	case equalFold(text, "default"),
		equalFold(text, "none") && c.v.Command == CommandSetRole,
		equalFold(text, "local") && c.v.NameIs(c.sql, "timezone"):
		c.v.Flags |= ValueDefault
	}
}

// setSpecial gives the parameters that stand for other statements their names.
func (c *classifier) setSpecial() {
	switch {
	case c.v.NameIs(c.sql, "role"):
		if c.v.Command != CommandSetLocal {
			c.v.Command = CommandSetRole
		}
	case c.v.NameIs(c.sql, "session_authorization"):
		c.v.Command = CommandSetSessionAuth
	case c.v.NameIs(c.sql, "transaction_read_only"):
		c.setTx(c.valueIsOneOf("on", "true", "yes", "1"), TxReadOnly, TxReadWrite)
	case c.v.NameIs(c.sql, "transaction_isolation"):
		c.setTx(c.valueIsOneOf("serializable"), TxSerializable, 0)
		if c.valueIsOneOf("repeatable read") {
			c.v.Flags |= TxRepeatableRead
		}
	case c.v.NameIs(c.sql, "transaction_deferrable"):
		c.setTx(c.valueIsOneOf("on", "true", "yes", "1"), TxDeferrable, 0)
	}
}

func (c *classifier) setTx(holds bool, then, otherwise Flags) {
	c.v.Command = CommandSetTx
	c.v.Flags = c.v.Flags&^State | LocalState | otherwise
	if holds {
		c.v.Flags = c.v.Flags&^otherwise | then
	}
}

func (c *classifier) valueIsOneOf(a ...string) bool {
	var buf [32]byte
	value, ok := c.v.AppendValue(buf[:0], c.sql, c.lx.opts)
	if !ok {
		return false
	}
	for _, s := range a {
		if equalFold(value, s) {
			return true
		}
	}
	return false
}

func (c *classifier) reset() {
	c.v.Flags |= State
	start := c.tok.Start
	switch {
	case c.word("all"):
		c.plain(CommandResetAll)
	case c.word("role"):
		c.plain(CommandResetRole)
	case c.word("session"):
		c.plain(CommandResetSessionAuth)
	case c.word("time"), c.word("transaction"):
		c.v.Command = CommandReset
		c.rest()
		c.v.Name = Span{start, c.prev.End}
	default:
		c.named(CommandReset)
		if c.v.NameIs(c.sql, "session_authorization") {
			c.v.Command = CommandResetSessionAuth
		}
	}
}

// show reads SHOW: a parameter that belongs to the session, or is the same everywhere, may be shown anywhere.
func (c *classifier) show() {
	c.v.Command = CommandShow
	start := c.tok.Start
	switch {
	case c.word("time"), c.word("transaction"), c.word("session"):
		c.rest()
		c.v.Name = Span{start, c.prev.End}
	default:
		first := c.tok
		c.v.Name = c.name()
		c.skip()
		if first.Kind == TokenWord && c.v.Name == (Span{first.Start, first.End}) && sharedSettings[string(c.folded(first))] {
			c.v.Kind = Read
			return
		}
	}
	var buf [64]byte
	if sharedSetting(c.v.AppendName(buf[:0], c.sql)) {
		c.v.Kind = Read
		return
	}
	c.v.Flags |= NodeLocal
}

func sharedSetting(name []byte) bool {
	for i, ch := range name {
		switch {
		case ch == '.':
			return true
		case 'A' <= ch && ch <= 'Z':
			name[i] = ch + 'a' - 'A'
		}
	}
	return sharedSettings[string(name)]
}
