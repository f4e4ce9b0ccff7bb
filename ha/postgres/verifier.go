package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// verifierIterations is PostgreSQL's default; the passwords are random, so more would only cost time at login.
const verifierIterations = 4096

// newVerifier returns the SCRAM-SHA-256 verifier of a password (src/common/scram-common.c, scram_build_secret): with it
// no password ever stands in a statement. The password is ASCII, so it needs no preparation by SASLprep.
func newVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt) //nolint:errcheck // never returns an error
	return buildVerifier(password, salt, verifierIterations)
}

func buildVerifier(password string, salt []byte, iterations int) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive key: %w", err)
	}
	keyed := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text)) // hash.Hash.Write returns no error
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(keyed("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt), encode(stored[:]), encode(keyed("Server Key"))), nil
}

// matches reports whether the verifier in pg_authid is that of the password.
func matches(verifier, password string) bool {
	rest, ok := strings.CutPrefix(verifier, "SCRAM-SHA-256$")
	if !ok {
		return false
	}
	count, rest, ok := strings.Cut(rest, ":")
	if !ok {
		return false
	}
	salt, _, ok := strings.Cut(rest, "$")
	if !ok {
		return false
	}
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations <= 0 || iterations > 1<<20 {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return false
	}
	again, err := buildVerifier(password, raw, iterations)
	return err == nil && subtle.ConstantTimeCompare([]byte(again), []byte(verifier)) == 1
}
