package auth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// KeySize is the length of every SCRAM-SHA-256 key in bytes.
const KeySize = sha256.Size

// Limits of a verifier that PostgreSQL itself may have written; anything beyond is refused.
const (
	maxSaltBytes  = 1024
	maxIterations = 1 << 24
)

// ErrVerifier says that a text is no SCRAM-SHA-256 verifier.
var ErrVerifier = errors.New("not a SCRAM-SHA-256 verifier")

// Key is one of SCRAM's derived keys.
type Key [KeySize]byte

// Verifier is what pg_authid.rolpassword holds for a role: enough to check a proof, not enough to make one.
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  Key
	ServerKey  Key
}

// ParseVerifier reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, the last three in base64
// (PostgreSQL documentation, pg_authid).
func ParseVerifier(text string) (Verifier, error) {
	rest, ok := strings.CutPrefix(text, "SCRAM-SHA-256$")
	if !ok {
		return Verifier{}, ErrVerifier
	}
	head, keys, ok1 := strings.Cut(rest, "$")
	count, salt64, ok2 := strings.Cut(head, ":")
	stored64, server64, ok3 := strings.Cut(keys, ":")
	if !ok1 || !ok2 || !ok3 {
		return Verifier{}, ErrVerifier
	}
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 || iterations > maxIterations {
		return Verifier{}, fmt.Errorf("iterations: %w", ErrVerifier)
	}
	v := Verifier{Iterations: iterations}
	v.Salt, err = base64.StdEncoding.DecodeString(salt64)
	if err != nil || len(v.Salt) == 0 || len(v.Salt) > maxSaltBytes {
		return Verifier{}, fmt.Errorf("salt: %w", ErrVerifier)
	}
	if v.StoredKey, err = parseKey(stored64); err != nil {
		return Verifier{}, fmt.Errorf("stored key: %w", err)
	}
	if v.ServerKey, err = parseKey(server64); err != nil {
		return Verifier{}, fmt.Errorf("server key: %w", err)
	}
	return v, nil
}

func parseKey(text string) (Key, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != KeySize {
		return Key{}, ErrVerifier
	}
	return Key(raw), nil
}

// NewVerifier derives the verifier of a password. It costs one PBKDF2 run.
func NewVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	keys, err := deriveKeys(password, salt, iterations)
	if err != nil {
		return Verifier{}, err
	}
	return Verifier{
		Iterations: iterations, Salt: salt,
		StoredKey: storedKey(keys.ClientKey), ServerKey: keys.ServerKey,
	}, nil
}

// String returns the form that ParseVerifier reads and ALTER ROLE ... PASSWORD accepts. It is a secret.
func (v Verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", v.Iterations, b64(v.Salt), b64(v.StoredKey[:]), b64(v.ServerKey[:]))
}

// Keys let walgate log in to a server as the role whose password they were derived from, as long as the role's verifier
// is the one with this StoredKey. They are as secret as a password, but of use for one salt only.
type Keys struct {
	ClientKey Key
	ServerKey Key
}

// deriveKeys runs PBKDF2 over the prepared password (RFC 5802, section 3).
func deriveKeys(password string, salt []byte, iterations int) (Keys, error) {
	salted, err := pbkdf2.Key(sha256.New, preparePassword(password), salt, iterations, KeySize)
	if err != nil {
		return Keys{}, fmt.Errorf("derive salted password: %w", err)
	}
	return Keys{
		ClientKey: sign(salted, []byte("Client Key")),
		ServerKey: sign(salted, []byte("Server Key")),
	}, nil
}

// sign is HMAC-SHA-256 over the parts in order.
func sign(key []byte, parts ...[]byte) Key {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(part)
	}
	return Key(mac.Sum(nil))
}

// storedKey is what a verifier keeps of a client key.
func storedKey(clientKey Key) Key { return sha256.Sum256(clientKey[:]) }

// xor returns a XOR b.
func xor(a, b Key) Key {
	for i := range a {
		a[i] ^= b[i]
	}
	return a
}
