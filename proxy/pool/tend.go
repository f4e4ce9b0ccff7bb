package pool

import (
	"bytes"
	"time"

	"github.com/walgate/walgate/replication"
)

// tend looks after all pools: it closes what is too old, opens what is missing, and carries out a recycling that had to
// wait.
func (s *Set) tend() {
	if s.stale.Load() {
		s.defaultsChanged()
	}
	s.warm()
	now := s.now()
	for _, b := range s.list() {
		b.tend(now)
	}
}

// warm makes the Budgets of the newest view whose minimum is to be kept.
func (s *Set) warm() {
	s.mu.Lock()
	view := s.view
	uses := make([]use, 0, len(s.uses))
	for u := range s.uses {
		uses = append(uses, u)
	}
	s.mu.Unlock()
	for _, l := range s.cfg.Warm {
		if secret := s.cfg.Secret(l.User); len(secret.Keys) > 0 || secret.Password != "" {
			uses = append(uses, use{l, replication.RolePrimary})
		}
	}
	for _, u := range uses {
		for _, m := range view.Members {
			if (m.Name == view.Primary) == (u.role == replication.RolePrimary) {
				s.budget(Key{Node: m.Name, Database: u.login.Database, User: u.login.User}, u.role, view.Epoch)
			}
		}
	}
}

// recycleEvery bounds how often changed defaults make all servers unusable: a script that alters a thousand roles must
// not keep every pool from having connections.
const recycleEvery = time.Second

// Completed is told the tags of the statements that the server has completed (CommandComplete, without its final zero).
// ALTER ROLE and ALTER DATABASE may change what new connections start with; sessions that share servers must not see
// the old and the new side by side. What changes roles is told to Config.RolesChanged. Called by the driver while a
// session has the server.
func (s *Server) Completed(tag []byte) {
	roles := bytes.HasSuffix(tag, []byte(" ROLE")) && bytes.Count(tag, []byte(" ")) == 1 // CREATE, ALTER, DROP; GRANT and REVOKE do no harm
	defaults := roles && tag[0] == 'A' || bytes.Equal(tag, []byte("ALTER DATABASE"))
	if !roles && !defaults {
		return
	}
	b := s.budget
	b.mu.Lock()
	s.altered, s.roles = s.altered || defaults, s.roles || roles
	b.mu.Unlock()
	b.set.changed(defaults, roles)
}

// changed does what must follow when defaults or roles may have been changed.
func (s *Set) changed(defaults, roles bool) {
	if roles {
		s.cfg.RolesChanged()
	}
	if defaults {
		s.defaultsChanged()
	}
}

// defaultsChanged recycles all servers, now or, if that has just been done, a little later.
func (s *Set) defaultsChanged() {
	now := s.now()
	last := s.recycled.Load()
	if last != 0 && now.Sub(replication.Instant(last)) < recycleEvery || !s.recycled.CompareAndSwap(last, int64(now)) {
		s.stale.Store(true)
		return
	}
	s.stale.Store(false)
	for _, b := range s.list() {
		b.mu.Lock()
		b.recycle(now)
		b.mu.Unlock()
	}
}

// relieve has another pool of the node close an idle connection, because PostgreSQL has none left for b.
func (s *Set) relieve(b *Budget) {
	pools := b.node.idle(s.list())
	if at := choose(claim{budget: b, scope: scopeNode}, pools); at >= 0 {
		pools[at].budget.evict()
	}
}
