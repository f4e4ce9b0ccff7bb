package session

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/walgate/walgate/router"
)

// statement is a prepared statement of a client. It is immutable once installed.
type statement struct {
	name      string // the client's; empty: the unnamed statement
	canonical string // its name on every server; "" for the unnamed one
	text      string
	types     string // raw: int16 count, int32 each
	verdict   router.Verdict
	effect    *effect // nil, or what executing it does, to be copied
	large     bool    // the text was too large to keep: it exists on one server only
}

// prepared holds the prepared statements of a client, and which portals run them.
type prepared struct {
	named   map[string]*statement
	unnamed *statement
	// unnamedHere: the attached server's unnamed statement is ours.
	unnamedHere bool
	portal      *statement // of the unnamed portal
	portals     map[string]*statement
}

func (p *prepared) count() int {
	n := len(p.named)
	if p.unnamed != nil {
		n++
	}
	return n
}

func (p *prepared) find(name []byte) *statement {
	if len(name) == 0 {
		return p.unnamed
	}
	return p.named[string(name)]
}

// install makes st the statement of its name and returns what it replaced.
func (p *prepared) install(st *statement) (prev *statement) {
	if st.name == "" {
		prev, p.unnamed = p.unnamed, st
		return prev
	}
	if p.named == nil {
		p.named = make(map[string]*statement)
	}
	prev = p.named[st.name]
	p.named[st.name] = st
	return prev
}

// uninstall takes st back, if it is still installed, in favour of what it replaced.
func (p *prepared) uninstall(st, prev *statement) {
	if p.find([]byte(st.name)) != st {
		return
	}
	if prev != nil {
		p.install(prev)
		return
	}
	p.remove(st.name)
}

func (p *prepared) remove(name string) {
	if name == "" {
		p.unnamed = nil
		return
	}
	delete(p.named, name)
}

// clear forgets everything, as DISCARD ALL does.
func (p *prepared) clear() { *p = prepared{} }

// bound notes which statement a portal runs.
func (p *prepared) bound(portal []byte, st *statement) {
	if len(portal) == 0 {
		p.portal = st
		return
	}
	if p.portals == nil {
		p.portals = make(map[string]*statement)
	}
	if len(p.portals) < maxPortals {
		p.portals[string(portal)] = st
	}
}

// maxPortals bounds the named portals of one transaction whose statements are remembered.
const maxPortals = 1000

func (p *prepared) running(portal []byte) *statement {
	if len(portal) == 0 {
		return p.portal
	}
	return p.portals[string(portal)]
}

// ended forgets the portals: the transaction is over.
func (p *prepared) ended() { p.portal, p.portals = nil, nil }

// parseSettings are the settings by which PostgreSQL reads the literals of a statement once and for all, when it is
// parsed. (What search_path decides is looked up again at each execution.)
var parseSettings = []string{"datestyle", "timezone", "intervalstyle", "standard_conforming_strings", "client_encoding"}

// canonicalName names a statement by what it is, so that all clients of a server share it – all that read its literals
// alike.
func canonicalName(text, types []byte, settings *settingSet) string {
	h := sha256.New()
	h.Write(types)
	for _, name := range parseSettings {
		if value, ok := settings.value(name); ok {
			h.Write([]byte(name + "=" + value + "\x00"))
		}
	}
	h.Write(text)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return canonicalPrefix + hex.EncodeToString(sum[:16])
}

const canonicalPrefix = "wg_"

// statementCache holds the canonical names that a server has prepared, least recently used ones first to go. The zero
// value with a limit is ready.
type statementCache struct {
	limit  int
	byName map[string]*cachedStatement
	// newest and oldest are the ends of the list by use.
	newest, oldest *cachedStatement
}

type cachedStatement struct {
	name         string
	newer, older *cachedStatement
}

// use reports whether the server has the statement, and makes it the most recently used.
func (c *statementCache) use(name string) bool {
	e := c.byName[name]
	if e == nil {
		return false
	}
	if e != c.newest {
		c.unlink(e)
		c.link(e)
	}
	return true
}

// add notes a statement that is being prepared; evicted names one that must be closed, or is empty.
func (c *statementCache) add(name string) (evicted string) {
	if c.use(name) {
		return ""
	}
	if c.byName == nil {
		c.byName = make(map[string]*cachedStatement)
	}
	e := &cachedStatement{name: name}
	c.byName[name] = e
	c.link(e)
	if len(c.byName) > c.limit && c.oldest != e {
		evicted = c.oldest.name
		c.remove(evicted)
	}
	return evicted
}

func (c *statementCache) remove(name string) {
	if e := c.byName[name]; e != nil {
		c.unlink(e)
		delete(c.byName, name)
	}
}

func (c *statementCache) clear() { c.byName, c.newest, c.oldest = nil, nil, nil }

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
