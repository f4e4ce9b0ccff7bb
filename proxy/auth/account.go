package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/walgate/walgate/replication"
)

// Account is what a Directory knows of a role when its login begins. For roles that do not exist it holds a verifier
// that nothing fits, so that every method runs alike.
type Account struct {
	User     string
	Kind     CredentialKind
	verifier Verifier // of the role or made up; made up for MD5Credential too
	text     string   // Credential.Text
	known    bool
	at       replication.Instant // when it was asked for
}

// Same reports whether both hold the same credential.
func (a *Account) Same(b *Account) bool {
	return a.known == b.known && a.Kind == b.Kind && a.text == b.text
}

// Exchange starts a SCRAM conversation. binding is the data of the TLS channel when channel binding is offered.
func (a *Account) Exchange(binding []byte) *Exchange {
	return newExchange(a.verifier, a.known && a.Kind != MD5Credential, binding)
}

// Proof is what the keys that an Exchange revealed are worth toward servers.
func (a *Account) Proof(keys Keys) Proof {
	return Proof{Keys: SaltedKeys{Keys: keys, Salt: string(a.verifier.Salt), Iterations: a.verifier.Iterations, At: a.at}}
}

// CheckMD5 checks the answer to AuthenticationMD5Password, a text that ends with a zero byte.
func (a *Account) CheckMD5(answer []byte, salt [4]byte) (Proof, error) {
	text, ok := strings.CutSuffix(string(answer), "\x00")
	if !ok || strings.IndexByte(text, 0) >= 0 {
		return Proof{}, fmt.Errorf("password: %w", ErrMalformed)
	}
	hash := a.text
	switch {
	case a.Kind == PlainCredential:
		hash = MD5Hash(a.User, a.text)
	case a.Kind != MD5Credential:
		hash = ""
	}
	if !sameText(text, MD5Response(hash, salt)) || hash == "" || !a.known {
		return Proof{}, ErrDenied
	}
	return Proof{MD5: hash}, nil
}

// CheckPassword checks a password in plain text, the body of a password message. It costs one PBKDF2 run, for which it
// waits until one of the directory's slots is free.
func (d *Directory) CheckPassword(ctx context.Context, a *Account, body []byte) (Proof, error) {
	password, ok := strings.CutSuffix(string(body), "\x00")
	if !ok || strings.IndexByte(password, 0) >= 0 {
		return Proof{}, fmt.Errorf("password: %w", ErrMalformed)
	}
	if err := d.slots.Acquire(ctx, 1); err != nil {
		return Proof{}, fmt.Errorf("wait for a login slot: %w", context.Cause(ctx))
	}
	defer d.slots.Release(1)
	verifier := a.verifier
	if a.Kind == MD5Credential {
		verifier = d.mock(a.User) // so that it takes as long
	}
	keys, err := deriveKeys(password, verifier.Salt, verifier.Iterations)
	if err != nil {
		return Proof{}, err
	}
	stored := storedKey(keys.ClientKey)
	same := subtle.ConstantTimeCompare(stored[:], verifier.StoredKey[:]) == 1
	proof := a.Proof(keys)
	if a.Kind == MD5Credential {
		same = sameText(MD5Hash(a.User, password), a.text)
		proof = Proof{MD5: a.text}
	}
	if !same || !a.known || password == "" {
		return Proof{}, ErrDenied
	}
	return proof, nil
}
