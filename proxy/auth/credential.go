package auth

import (
	"crypto/md5" // PostgreSQL's md5 method, for roles that still have such a hash
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// CredentialKind says in which form a password is known.
type CredentialKind uint8

// The forms. Each allows other methods: a verifier scram-sha-256 and password, an md5 hash md5 and password, and a
// password in plain text all of them.
const (
	NoCredential CredentialKind = iota // no such role, or it may not log in with a password
	SCRAMCredential
	MD5Credential
	PlainCredential
)

// Credential is what a source knows of a role's password. The zero Credential fits no password.
type Credential struct {
	Kind     CredentialKind
	Verifier Verifier // SCRAMCredential
	// Text is the whole as it is stored. It is a secret: for PlainCredential the password itself.
	Text string
}

// ParseCredential reads what pg_authid.rolpassword holds: a SCRAM verifier or an md5 hash. Anything else is no
// credential.
func ParseCredential(text string) Credential {
	if verifier, err := ParseVerifier(text); err == nil {
		return Credential{Kind: SCRAMCredential, Verifier: verifier, Text: text}
	}
	if isMD5(text) {
		return Credential{Kind: MD5Credential, Text: text}
	}
	return Credential{}
}

// isMD5 reports whether text is "md5" and 32 lower-case hexadecimal digits.
func isMD5(text string) bool {
	digits, ok := strings.CutPrefix(text, "md5")
	return ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}

// MD5Hash is the md5 form of a role's password: "md5" + md5(password + user).
func MD5Hash(user, password string) string {
	sum := md5.Sum([]byte(password + user))
	return "md5" + hex.EncodeToString(sum[:])
}

// MD5Response answers AuthenticationMD5Password with a hash of MD5Hash: "md5" + md5(digits of hash + salt).
func MD5Response(hash string, salt [4]byte) string {
	sum := md5.Sum(append([]byte(strings.TrimPrefix(hash, "md5")), salt[:]...))
	return "md5" + hex.EncodeToString(sum[:])
}

// sameText compares secrets in constant time; only their lengths show.
func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
