package auth

import (
	"crypto/md5" // PostgreSQL's md5 method; toward servers only, when they ask for it
	"encoding/hex"

	"github.com/xdg-go/stringprep"
)

// Secret is what walgate can prove to a server for one role: a password (internal roles) or keys (client roles). The
// zero Secret can only pass `trust` and `peer`.
type Secret struct {
	Password string
	Keys     Keys
	HasKeys  bool
}

// preparePassword applies SASLprep as PostgreSQL does: a password that SASLprep refuses is used as it is.
func preparePassword(password string) string {
	prepared, err := stringprep.SASLprep.Prepare(password)
	if err != nil || prepared == "" {
		return password
	}
	return prepared
}

// MD5Response answers AuthenticationMD5Password: "md5" + md5(md5(password + user) + salt).
func MD5Response(user, password string, salt [4]byte) string {
	inner := md5.Sum([]byte(password + user))
	outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), salt[:]...))
	return "md5" + hex.EncodeToString(outer[:])
}
