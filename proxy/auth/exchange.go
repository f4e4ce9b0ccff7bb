package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Mechanism is the only SASL mechanism offered and accepted.
const Mechanism = "SCRAM-SHA-256"

// maxSCRAMMessage bounds one SCRAM message from either side, in bytes.
const maxSCRAMMessage = 4096

// The outcomes of an exchange that are the other side's fault.
var (
	// ErrMalformed says that a SCRAM message breaks the protocol: SQLSTATE 08P01.
	ErrMalformed = errors.New("malformed SCRAM message")
	// ErrDenied says that the proof is wrong or the role is unknown: SQLSTATE 28P01, the same for both.
	ErrDenied = errors.New("password authentication failed")
)

// Exchange is the server's side of one SCRAM-SHA-256 conversation. It is used once, by one goroutine.
type Exchange struct {
	verifier Verifier
	known    bool
	nonce    string // the server's part
	// kept from the client's first message, as the proof covers them
	gs2Header   []byte
	clientBare  []byte
	serverFirst []byte
	fullNonce   []byte
}

// newExchange starts a conversation; with known false it runs to its end and denies.
func newExchange(verifier Verifier, known bool) *Exchange {
	return &Exchange{verifier: verifier, known: known, nonce: newNonce()}
}

func newNonce() string {
	var raw [18]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(raw[:])
}

// First takes client-first-message and returns server-first-message.
func (e *Exchange) First(message []byte) ([]byte, error) {
	if len(message) > maxSCRAMMessage || bytes.IndexByte(message, 0) >= 0 || e.serverFirst != nil {
		return nil, ErrMalformed
	}
	// gs2-header: no channel binding is offered, so "p=" is a protocol error; an authzid is refused as PostgreSQL does.
	if !bytes.HasPrefix(message, []byte("n,,")) && !bytes.HasPrefix(message, []byte("y,,")) {
		return nil, fmt.Errorf("gs2 header: %w", ErrMalformed)
	}
	e.gs2Header = bytes.Clone(message[:3])
	e.clientBare = bytes.Clone(message[3:])
	// n= is ignored: the role is that of the startup packet, as with PostgreSQL.
	_, rest, err := attribute(e.clientBare, 'n')
	if err != nil {
		return nil, err
	}
	clientNonce, rest, err := attribute(rest, 'r')
	if err != nil {
		return nil, err
	}
	if !printable(clientNonce) {
		return nil, fmt.Errorf("nonce: %w", ErrMalformed)
	}
	if err := extensions(rest); err != nil {
		return nil, err
	}
	e.fullNonce = append(bytes.Clone(clientNonce), e.nonce...)
	first := append([]byte("r="), e.fullNonce...)
	first = append(first, ",s="...)
	first = base64.StdEncoding.AppendEncode(first, e.verifier.Salt)
	first = append(first, ",i="...)
	e.serverFirst = strconv.AppendInt(first, int64(e.verifier.Iterations), 10)
	return e.serverFirst, nil
}

// Final takes client-final-message and returns server-final-message and the keys that the proof revealed.
func (e *Exchange) Final(message []byte) ([]byte, Keys, error) {
	if len(message) > maxSCRAMMessage || bytes.IndexByte(message, 0) >= 0 || e.serverFirst == nil {
		return nil, Keys{}, ErrMalformed
	}
	cut := bytes.LastIndex(message, []byte(",p="))
	if cut < 0 {
		return nil, Keys{}, fmt.Errorf("proof: %w", ErrMalformed)
	}
	withoutProof, proof64 := message[:cut], message[cut+3:]
	binding, rest, err := attribute(withoutProof, 'c')
	if err != nil {
		return nil, Keys{}, err
	}
	if string(binding) != base64.StdEncoding.EncodeToString(e.gs2Header) {
		return nil, Keys{}, fmt.Errorf("channel binding: %w", ErrMalformed)
	}
	nonce, rest, err := attribute(rest, 'r')
	if err != nil {
		return nil, Keys{}, err
	}
	if subtle.ConstantTimeCompare(nonce, e.fullNonce) != 1 {
		return nil, Keys{}, fmt.Errorf("nonce: %w", ErrMalformed)
	}
	if err := extensions(rest); err != nil {
		return nil, Keys{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(string(proof64))
	if err != nil || len(raw) != KeySize {
		return nil, Keys{}, fmt.Errorf("proof: %w", ErrMalformed)
	}
	message = fmt.Appendf(nil, "%s,%s,%s", e.clientBare, e.serverFirst, withoutProof)
	clientKey := xor(Key(raw), sign(e.verifier.StoredKey[:], message))
	stored := storedKey(clientKey)
	same := subtle.ConstantTimeCompare(stored[:], e.verifier.StoredKey[:]) == 1
	signature := sign(e.verifier.ServerKey[:], message)
	if !same || !e.known {
		return nil, Keys{}, ErrDenied
	}
	final := base64.StdEncoding.AppendEncode([]byte("v="), signature[:])
	return final, Keys{ClientKey: clientKey, ServerKey: e.verifier.ServerKey}, nil
}

// attribute reads "<name>=<value>" up to the next comma and returns the value and what follows that comma.
func attribute(text []byte, name byte) (value, rest []byte, err error) {
	if len(text) < 2 || text[0] != name || text[1] != '=' {
		return nil, nil, fmt.Errorf("attribute %q: %w", name, ErrMalformed)
	}
	value, rest, _ = bytes.Cut(text[2:], []byte(","))
	return value, rest, nil
}

// extensions checks that what is left are optional attributes, which are ignored as PostgreSQL ignores them.
func extensions(text []byte) error {
	for len(text) > 0 {
		name := text[0] | 0x20
		if name < 'a' || name > 'z' {
			return fmt.Errorf("extension: %w", ErrMalformed)
		}
		var err error
		if _, text, err = attribute(text, text[0]); err != nil {
			return err
		}
	}
	return nil
}

// printable reports whether a nonce is what RFC 5802 allows: visible ASCII but the comma, at least one character.
func printable(text []byte) bool {
	for _, c := range text {
		if c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return len(text) > 0
}

// InitialResponse reads the body of a SASLInitialResponse: the mechanism's name, and the length and bytes of its first
// message, which point into body.
func InitialResponse(body []byte) ([]byte, error) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || string(name) != Mechanism || len(rest) < 4 {
		return nil, fmt.Errorf("SASL mechanism: %w", ErrMalformed)
	}
	length := int64(int32(binary.BigEndian.Uint32(rest)))
	if length != int64(len(rest)-4) {
		return nil, fmt.Errorf("SASL initial response: %w", ErrMalformed)
	}
	return rest[4:], nil
}
