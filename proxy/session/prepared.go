package session

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/walgate/walgate/router"
)

// statement is a prepared statement of a client. It is immutable once installed, but for a newer verdict in its body and
// what the client was told of it.
type statement struct {
	name      string     // the client's; empty: the unnamed statement
	canonical string     // its name on every server; "" for the unnamed one
	told      outline    // not of the unnamed one, which is shared
	carried   *statement // the same as it is carried, of one that is on a server under its own name
	*body
}

// body is what statements share: it is immutable.
type body struct {
	asked   string // the text as the client sent it; sql: what stands behind the name
	text    string // the text that is sent
	types   string // raw: int16 count, int32 each
	reading string // of the settings when it was parsed
	opts    router.Options
	verdict router.Verdict
	// fingerprint of asked.
	fingerprint uint64
	effect      *effect // nil, or what executing it does, to be copied
	sql         bool    // prepared by PREPARE: text is all of that
	// inner is the prepared statement that an EXECUTE in the extended protocol names.
	inner    *statement
	original string // sql: the text as the client sent it
	about    *own   // of SET, SHOW or RESET of one of walgate's own parameters
	bits     bits   // of what runs it
	async    bool   // see switchesAsync
	large    bool   // it exists on one server only: the text was too large to keep, or it is there under its own name
	id       string // the canonical name
	unnamed  statement
}

// newStatement makes a client's statement.
func (s *Session) newStatement(name, text, types []byte) *statement {
	reading := s.readingText()
	b := s.cfg.shared.body(text, types, reading, s.opts, func() *body { return newBody(text, types, reading, s.opts) })
	switch b.verdict.Command {
	case router.CommandDeallocate, router.CommandDeallocateAll, router.CommandExecute:
		b = s.aboutStatements(b)
	case router.CommandSet, router.CommandShow, router.CommandReset:
		b = s.aboutOwn(b)
	}
	if len(name) == 0 {
		return &b.unnamed
	}
	return &statement{name: string(name), canonical: b.id, body: b}
}

// aboutStatements returns the body of a statement that names others, with a text that does what it means to the session.
func (s *Session) aboutStatements(shared *body) *body {
	var r request
	changed := s.rewrite(&shared.verdict, []byte(shared.asked), &r, nil)
	if changed == nil {
		return shared
	}
	b := *shared
	b.text, b.effect, b.inner, b.unnamed.body = string(changed), r.effect, r.stmt, &b
	b.id = canonicalName(&b)
	return &b
}

// newBody makes the body of a statement.
func newBody(text, types []byte, reading string, opts router.Options) *body {
	v := router.Classify(text, opts)
	b := &body{asked: string(text), types: string(types), reading: reading, opts: opts, verdict: v,
		fingerprint: router.Fingerprint(text, opts)}
	b.text, b.unnamed.body = b.asked, b
	b.async = switchesAsync(&v, text)
	if tracked(&v) {
		b.effect = makeEffect(&v, text, opts)
	}
	b.id = canonicalName(b)
	return b
}

// judged returns the verdict on a statement by the newest catalog.
func (s *Session) judged(st *statement) *router.Verdict {
	if st.opts.Catalog == s.opts.Catalog || st.large || st.asked != st.text {
		return &st.verdict
	}
	opts := st.opts
	opts.Catalog = s.opts.Catalog
	text, types := []byte(st.asked), []byte(st.types)
	b := s.cfg.shared.body(text, types, st.reading, opts, func() *body { return newBody(text, types, st.reading, opts) })
	if st.name != "" {
		st.body = b // the same but for the verdict
	}
	return &b.verdict
}

// prepared holds the prepared statements of a client.
type prepared struct {
	named   map[string]*statement
	unnamed *statement
	// unnamedTold is what the client was told of unnamed, unnamedStamp the count of the database's Definitions then.
	unnamedTold  outline
	unnamedStamp uint64
}

// portals tells which statements run where.
type portals struct {
	// unnamedHere: the attached server's unnamed statement is ours.
	unnamedHere bool
	unnamed     *statement // that the unnamed portal runs
	named       map[string]*statement
	// sets is what those will do that set parameters to values that they were bound to.
	sets map[string]*effect
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
		prev, p.unnamed, p.unnamedTold = p.unnamed, st, outline{}
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
func (p *portals) bound(portal []byte, st *statement) {
	if len(portal) == 0 {
		p.unnamed = st
		return
	}
	if p.named == nil {
		p.named = make(map[string]*statement)
	}
	if len(p.named) < maxPortals {
		p.named[string(portal)] = st
	}
}

// binds notes what a portal will do; nil: what its statement does.
func (p *portals) binds(portal []byte, e *effect) {
	switch {
	case e == nil:
		delete(p.sets, string(portal))
	case p.sets == nil:
		p.sets = map[string]*effect{string(portal): e}
	case len(p.sets) < maxPortals:
		p.sets[string(portal)] = e
	}
}

// maxPortals bounds the named portals of one transaction whose statements are remembered.
const maxPortals = 1000

func (p *portals) running(portal []byte) *statement {
	if len(portal) == 0 {
		return p.unnamed
	}
	return p.named[string(portal)]
}

// ended forgets the portals: the transaction is over.
func (p *portals) ended() { p.unnamed, p.named, p.sets = nil, nil, nil }

// canonicalName names a statement by what it is, so that all clients of a server share it – all for whom it is read alike.
func canonicalName(b *body, more ...string) string {
	h := sha256.New()
	h.Write([]byte(b.types))
	h.Write([]byte(b.reading))
	h.Write([]byte(b.text))
	for _, text := range more {
		h.Write([]byte{0})
		h.Write([]byte(text))
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return canonicalPrefix + hex.EncodeToString(sum[:16])
}

const canonicalPrefix = "wg_"
