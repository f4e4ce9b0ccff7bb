package router

import (
	"strconv"

	"github.com/walgate/walgate/replication"
)

// CausalToken is a position that a session can be made to see, as text EPOCH-X/X: what the primary of that epoch had written up
// to the position. It is what sessions hand to each other to be causal. The zero CausalToken asks for nothing.
type CausalToken struct {
	Epoch    replication.Epoch
	Position replication.LSN
}

// maxTokenText bounds the text: 20 digits, the hyphen, and a position.
const maxTokenText = 20 + 1 + 17

// ParseCausalToken reads what String writes.
func ParseCausalToken(text string) (t CausalToken, ok bool) {
	if len(text) > maxTokenText {
		return CausalToken{}, false
	}
	for i := range len(text) {
		if text[i] != '-' {
			continue
		}
		epoch, err := strconv.ParseUint(text[:i], 10, 64)
		position, bad := replication.ParseLSN(text[i+1:])
		if err != nil || bad != nil || epoch == 0 || !position.Known() || text[0] == '0' {
			return CausalToken{}, false
		}
		return CausalToken{replication.Epoch(epoch), position}, true
	}
	return CausalToken{}, false
}

// String writes EPOCH-X/X; the zero CausalToken is the empty text.
func (t CausalToken) String() string {
	if t == (CausalToken{}) {
		return ""
	}
	return strconv.FormatUint(uint64(t.Epoch), 10) + "-" + t.Position.String()
}

// later reports whether t asks for more than other, as far as that can be told without a view.
func (t CausalToken) later(other CausalToken) bool {
	return t.Epoch > other.Epoch || t.Epoch == other.Epoch && t.Position > other.Position
}
