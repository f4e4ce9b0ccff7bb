package session

// statementCache holds the canonical names that a server has prepared, least recently used ones first to go. The zero
// value with a limit is ready.
type statementCache struct {
	limit  int
	byName map[string]*cachedStatement
	// newest and oldest are the ends of the list by use.
	newest, oldest *cachedStatement
	spare          *cachedStatement // the last one removed
}

type cachedStatement struct {
	name         string
	newer, older *cachedStatement
	// stamp is that of the definitions under which it was parsed, 0 if that is not known; outline what it was then.
	stamp   uint64
	outline outline
}

// use returns the statement if the server has it, and makes it the most recently used.
func (c *statementCache) use(name string) *cachedStatement {
	e := c.byName[name]
	if e != nil && e != c.newest {
		c.unlink(e)
		c.link(e)
	}
	return e
}

// add notes a statement that is being prepared; evicted names one that must be closed, or is empty.
func (c *statementCache) add(name string) (evicted string) {
	if c.use(name) != nil {
		return ""
	}
	if c.byName == nil {
		c.byName = make(map[string]*cachedStatement)
	}
	if len(c.byName) >= max(c.limit, 1) {
		evicted = c.oldest.name
		c.remove(evicted)
	}
	e := c.spare
	if c.spare = nil; e == nil {
		e = new(cachedStatement)
	}
	*e = cachedStatement{name: name}
	c.byName[name] = e
	c.link(e)
	return evicted
}

func (c *statementCache) link(e *cachedStatement) {
	e.newer, e.older = nil, c.newest
	if c.newest != nil {
		c.newest.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
}

func (c *statementCache) unlink(e *cachedStatement) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		c.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		c.oldest = e.newer
	}
	e.newer, e.older = nil, nil
}

func (c *statementCache) remove(name string) {
	if e := c.byName[name]; e != nil {
		c.unlink(e)
		delete(c.byName, name)
		c.spare = e
	}
}

func (c *statementCache) clear() { c.byName, c.newest, c.oldest = nil, nil, nil }

// names returns all names.
func (c *statementCache) names() []string {
	all := make([]string, 0, len(c.byName))
	for name := range c.byName {
		all = append(all, name)
	}
	return all
}
