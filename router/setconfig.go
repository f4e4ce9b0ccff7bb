package router

// LocalSetting is one set_config('Name', value, true) in a SELECT: the value is Value, or that of the parameter with the
// number Param.
type LocalSetting struct {
	Name, Value string
	Param       int // from 1; 0: Value
}

// LocalSettings returns what a statement that is nothing but SELECT set_config(...) [AS alias], ... sets until the end of
// the transaction. ok is false if there may be more to it than that.
func LocalSettings(sql []byte, opts Options) (list []LocalSetting, ok bool) {
	c := classifier{sql: sql, lx: NewLexer(sql, opts)}
	c.next()
	if !c.accept("select") {
		return nil, false
	}
	for {
		one, ok := c.localSetting()
		if !ok {
			return nil, false
		}
		list = append(list, one)
		if c.accept("as") || c.tok.Kind == TokenWord || c.tok.Kind == TokenQuoted {
			c.next()
		}
		switch {
		case c.punct(','):
			c.next()
		case c.ended():
			return list, true
		default:
			return nil, false
		}
	}
}

// localSetting reads one call.
func (c *classifier) localSetting() (one LocalSetting, ok bool) {
	if c.accept("pg_catalog") && c.punct('.') {
		c.next()
	}
	if !c.accept("set_config") || !c.punct('(') {
		return one, false
	}
	c.next()
	if c.tok.Kind != TokenString || !plainLiteral(c.text(c.tok), c.lx.opts) {
		return one, false
	}
	one.Name = string(appendLowered(appendLiteral(nil, c.text(c.tok))))
	c.next()
	if !c.punct(',') {
		return one, false
	}
	c.next()
	switch text := c.text(c.tok); {
	case c.tok.Kind == TokenParam:
		if one.Param = number(text[1:]); one.Param == 0 {
			return one, false
		}
	case c.tok.Kind == TokenString && plainLiteral(text, c.lx.opts):
		one.Value = string(appendLiteral(nil, text))
	default:
		return one, false
	}
	c.next()
	if !c.punct(',') {
		return one, false
	}
	c.next()
	if !c.accept("true") || !c.punct(')') {
		return one, false
	}
	c.next()
	return one, true
}

// number reads the number of a parameter; 0 is none.
func number(digits []byte) (n int) {
	for _, d := range digits {
		if d < '0' || d > '9' || n > 65535 {
			return 0
		}
		n = n*10 + int(d-'0')
	}
	return n
}

func appendLowered(name []byte) []byte {
	for i, b := range name {
		name[i] = lowerByte[b]
	}
	return name
}
