package auth

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
)

// Bounds of a user file.
const (
	maxUsers      = 100_000
	maxSecretText = 2048 // bytes of a name or secret
)

// Users is the content of a user file: the secrets of roles by name. It is never changed.
type Users map[string]Credential

// ParseUsers reads a user file in the format of PgBouncer's auth_file: on each line "name" "secret" in double quotes,
// inside which "" stands for a quote; what follows on the line is ignored. A secret is a SCRAM-SHA-256 verifier, an md5
// hash or a password in plain text. Lines that begin with ; or # are comments. file is the name for errors.
func ParseUsers(file string, content []byte) (Users, error) {
	users := Users{}
	number := 0
	for line := range bytes.Lines(content) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == ';' || line[0] == '#' {
			continue
		}
		fail := func(why string) (Users, error) { return nil, fmt.Errorf("%s:%d: %s", file, number, why) }
		name, rest, ok := quoted(line)
		if !ok || name == "" {
			return fail(`a name in double quotes is expected: "name" "secret"`)
		}
		secret, _, ok := quoted(bytes.TrimLeft(rest, " \t"))
		if !ok {
			return fail(`a secret in double quotes is expected after the name: "name" "secret"`)
		}
		if len(name) > maxSecretText || len(secret) > maxSecretText || bytes.IndexByte(line, 0) >= 0 {
			return fail("name or secret is too long or holds a zero byte")
		}
		if _, twice := users[name]; twice {
			return fail("this name stands in the file before")
		}
		if len(users) == maxUsers {
			return fail(fmt.Sprintf("more than %d names", maxUsers))
		}
		credential := ParseCredential(secret)
		if credential.Kind == NoCredential && secret != "" {
			credential = Credential{Kind: PlainCredential, Text: secret}
		}
		users[name] = credential
	}
	return users, nil
}

// quoted reads a text in double quotes from the beginning of line.
func quoted(line []byte) (text string, rest []byte, ok bool) {
	if len(line) == 0 || line[0] != '"' {
		return "", nil, false
	}
	var out []byte
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] != '"':
			out = append(out, line[i])
		case i+1 < len(line) && line[i+1] == '"':
			out = append(out, '"')
			i++
		default:
			return string(out), line[i+1:], true
		}
	}
	return "", nil, false
}

// Secret is what the file can prove to servers for the role: a password or an md5 hash. A verifier proves nothing.
func (u Users) Secret(user string) (secret Secret, ok bool) {
	switch c := u[user]; c.Kind {
	case PlainCredential:
		return Secret{Password: c.Text}, true
	case MD5Credential:
		return Secret{MD5: c.Text}, true
	}
	return Secret{}, false
}

// FileLookup is the newest content of a user file. It implements Lookup and is safe for concurrent use; before the first
// Store it knows nobody.
type FileLookup struct{ users atomic.Pointer[Users] }

// Store replaces the content.
func (l *FileLookup) Store(users Users) { l.users.Store(&users) }

// Load returns the content.
func (l *FileLookup) Load() Users {
	if users := l.users.Load(); users != nil {
		return *users
	}
	return nil
}

// Credential implements Lookup.
func (l *FileLookup) Credential(_ context.Context, user string) (Credential, error) {
	return l.Load()[user], nil
}
