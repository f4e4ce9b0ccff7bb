package session

import (
	"strings"

	"github.com/walgate/walgate/router"
)

// noteHushed notes that a statement may hide warnings for its transaction. The text is text or else stored.
func (s *Session) noteHushed(flags router.Flags, text []byte, stored string) {
	if !flags.Has(router.LocalState) {
		return
	}
	if text != nil {
		stored = string(text)
	}
	s.hushed = s.hushed || strings.Contains(strings.ToLower(stored), "client_min_messages")
}
