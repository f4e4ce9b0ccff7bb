package auth

import (
	"slices"

	"github.com/xdg-go/stringprep"

	"github.com/walgate/walgate/replication"
)

// maxKeys is how many proven keys of one role are kept: that of the newest password, and that of the one before for
// standbys that have not replayed the change.
const maxKeys = 2

// Secret is what walgate can prove to a server for one role. The zero Secret can only pass `trust` and the like.
type Secret struct {
	Password string       // of internal roles and of roles in the user file
	MD5      string       // a hash of MD5Hash
	Keys     []SaltedKeys // from clients' proofs, the newest first; never changed in place
}

// SaltedKeys are keys with the verifier that they belong to: a server that names another salt has another verifier.
type SaltedKeys struct {
	Keys
	Salt       string
	Iterations int
	At         replication.Instant // when the cluster said that this is the role's verifier
}

// Proof is what a client's login revealed about the role's password.
type Proof struct {
	Keys SaltedKeys // Iterations is 0 when there are none
	MD5  string
}

// With returns the Secret with a newer Proof added.
func (s Secret) With(p Proof) Secret {
	if p.MD5 != "" {
		s.MD5 = p.MD5
	}
	if p.Keys.Iterations == 0 || len(s.Keys) > 0 && s.Keys[0].Keys == p.Keys.Keys && s.Keys[0].Salt == p.Keys.Salt {
		return s
	}
	keys := make([]SaltedKeys, 0, maxKeys+1)
	placed := false
	for _, k := range s.Keys {
		if !placed && p.Keys.At >= k.At {
			keys, placed = append(keys, p.Keys), true
		}
		if k.Salt != p.Keys.Salt || k.Iterations != p.Keys.Iterations {
			keys = append(keys, k)
		}
	}
	if !placed {
		keys = append(keys, p.Keys)
	}
	s.Keys = keys[:min(len(keys), maxKeys)]
	return s
}

// Same reports whether both can prove the same.
func (s Secret) Same(t Secret) bool {
	return s.Password == t.Password && s.MD5 == t.MD5 && slices.Equal(s.Keys, t.Keys)
}

// keysFor returns the keys that fit the salt which a server names.
func (s Secret) keysFor(salt []byte, iterations int) (Keys, bool) {
	for _, k := range s.Keys {
		if k.Salt == string(salt) && k.Iterations == iterations {
			return k.Keys, true
		}
	}
	return Keys{}, false
}

// preparePassword applies SASLprep as PostgreSQL does: a password that SASLprep refuses is used as it is.
func preparePassword(password string) string {
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}
