package session

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// interner keeps one copy of what many sessions have in common: who they are, their settings, what they were told of
// them, and the statements they prepare. All it hands out is immutable. It is bounded, and safe for concurrent use; what
// it forgets stays valid for those who hold it. The zero value is ready.
type interner struct {
	mu         sync.Mutex
	seed       maphash.Seed
	identities table[*identity]
	sets       table[*settingSet]
	reports    table[*parameterList]
	choices    table[*choice]
	bodies     table[*body]
	text       int           // bytes of text in bodies.young
	unread     atomic.Uint64 // statements that were parsed under unknown settings
}

// identity is who a client is.
type identity struct{ user, database string }

// parameterList is what clients have been told (ParameterStatus).
type parameterList struct{ list []Parameter }

// choice is a server that a statement was given, and why it was this one.
type choice struct {
	node replication.NodeID
	why  string // constant text
	role replication.Role
}

// Limits of an interner: entries of each kind that are kept, bytes of statement text, and the longest text that is
// shared.
const (
	maxInterned     = 4096
	maxInternedText = 4 << 20
	maxSharedText   = 32 << 10
)

// table is a bounded map in two generations: what was not asked for while the younger one filled up is forgotten.
type table[V any] struct{ young, old map[uint64]V }

func (t *table[V]) find(key uint64) (v V, ok bool) {
	if v, ok = t.young[key]; ok {
		return v, true
	}
	if v, ok = t.old[key]; ok {
		t.add(key, v)
	}
	return v, ok
}

func (t *table[V]) add(key uint64, v V) {
	if len(t.young) >= maxInterned {
		t.turn()
	}
	if t.young == nil {
		t.young = make(map[uint64]V)
	}
	t.young[key] = v
}

func (t *table[V]) turn() { t.old, t.young = t.young, nil }

// digest makes keys of texts. Entries whose keys collide displace each other; they are compared before they are used.
type digest struct {
	seed maphash.Seed
	sum  uint64
}

// lock locks the interner and returns an empty digest.
func (in *interner) lock() digest {
	in.mu.Lock()
	if in.seed == (maphash.Seed{}) {
		in.seed = maphash.MakeSeed()
	}
	return digest{seed: in.seed}
}

func (d *digest) add(text string) { d.mix(maphash.String(d.seed, text)) }

func (d *digest) addBytes(text []byte) { d.mix(maphash.Bytes(d.seed, text)) }

func (d *digest) mix(h uint64) { d.sum = (d.sum ^ h) * 0x9e3779b97f4a7c15 }

// identity returns the shared identity.
func (in *interner) identity(user, database string) *identity {
	d := in.lock()
	defer in.mu.Unlock()
	d.add(user)
	d.add(database)
	want := identity{user, database}
	if found, ok := in.identities.find(d.sum); ok && *found == want {
		return found
	}
	in.identities.add(d.sum, &want)
	return &want
}

// set returns the shared set of a sorted list; nil for an empty one.
func (in *interner) set(list []setting) *settingSet {
	if len(list) == 0 {
		return nil
	}
	want := &settingSet{list: list}
	want.shared = want
	if others := withoutOwn(list); len(others) < len(list) {
		want.shared = in.set(others)
	}
	d := in.lock()
	defer in.mu.Unlock()
	for i := range list {
		d.add(list[i].name)
		d.add(list[i].value)
		if by := list[i].by; by != (actor{}) {
			d.add(by.authorization)
			d.add(by.role)
		}
	}
	if found, ok := in.sets.find(d.sum); ok && slices.Equal(found.list, list) {
		return found
	}
	want.noteReading()
	want.readOwn()
	in.sets.add(d.sum, want)
	return want
}

// report returns the shared list of what a client has been told.
func (in *interner) report(list []Parameter) *parameterList {
	d := in.lock()
	defer in.mu.Unlock()
	for i := range list {
		d.add(list[i].Name)
		d.add(list[i].Value)
	}
	if found, ok := in.reports.find(d.sum); ok && slices.Equal(found.list, list) {
		return found
	}
	want := &parameterList{list: list}
	in.reports.add(d.sum, want)
	return want
}

// choice returns the shared choice.
func (in *interner) choice(node replication.NodeID, why string, role replication.Role) *choice {
	d := in.lock()
	defer in.mu.Unlock()
	d.add(string(node))
	d.add(why)
	d.mix(uint64(role))
	if found, ok := in.choices.find(d.sum); ok && found.is(node, why, role) {
		return found
	}
	made := &choice{node, why, role}
	in.choices.add(d.sum, made)
	return made
}

func (c *choice) is(node replication.NodeID, why string, role replication.Role) bool {
	return c.role == role && c.node == node && c.why == why
}

// body returns the shared body of a statement, made by build if nobody has it.
func (in *interner) body(text, types []byte, reading string, opts router.Options, build func() *body) *body {
	if len(text) > maxSharedText || isUnread(reading) {
		return build()
	}
	d := in.lock()
	defer in.mu.Unlock()
	d.addBytes(text)
	d.addBytes(types)
	d.add(reading)
	found, ok := in.bodies.find(d.sum)
	if ok && found.asked == string(text) && found.types == string(types) && found.reading == reading && found.opts == opts {
		return found
	}
	if in.text += len(text); in.text > maxInternedText {
		in.text = len(text)
		in.bodies.turn()
	}
	b := build()
	in.bodies.add(d.sum, b)
	return b
}
