package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/walgate/walgate/replication"
)

// slotPrefix marks the slots that walgate owns: no other slot is ever dropped.
const slotPrefix = "walgate_"

// SlotName is the physical slot of a member on its upstream: "walgate_" and the name in the letters that slots allow
// (a-z, 0-9, _), with a short hash where letters were replaced, so that two members never share one.
func SlotName(node replication.NodeID) string {
	const room = 63 - len(slotPrefix) // NAMEDATALEN - 1
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, string(node))
	if clean != string(node) || len(clean) > room {
		sum := sha256.Sum256([]byte(node))
		clean = clean[:min(len(clean), room-9)] + "_" + hex.EncodeToString(sum[:4])
	}
	return slotPrefix + clean
}
