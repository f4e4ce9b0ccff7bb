package secure

import (
	"crypto/tls"
	"fmt"
)

// Mode says how much TLS is wanted, in libpq's words.
type Mode uint8

// The modes, the stricter the greater.
const (
	Disable    Mode = iota // never
	Allow                  // if the other side insists; for clients the same as Prefer
	Prefer                 // if the other side can
	Require                // always
	VerifyCA               // and the other side's certificate is signed by the CA
	VerifyFull             // and has the right name
)

var modes = [...]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// ParseMode reads a Mode's name.
func ParseMode(text string) (Mode, bool) {
	for i, name := range modes {
		if name == text {
			return Mode(i), true
		}
	}
	return Disable, false
}

// String returns the Mode's name.
func (m Mode) String() string {
	if int(m) >= len(modes) {
		return "unknown"
	}
	return modes[m]
}

// ParseVersion reads the name of a TLS version that is still safe to use: 1.2 or 1.3.
func ParseVersion(text string) (version uint16, ok bool) {
	switch text {
	case "1.2":
		return tls.VersionTLS12, true
	case "1.3":
		return tls.VersionTLS13, true
	}
	return 0, false
}

func checkVersion(version uint16) error {
	if version != tls.VersionTLS12 && version != tls.VersionTLS13 {
		return fmt.Errorf("TLS version %#x is neither 1.2 nor 1.3", version)
	}
	return nil
}
