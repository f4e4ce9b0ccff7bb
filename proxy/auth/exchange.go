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

// The SASL mechanisms. MechanismPlus binds the proof to the TLS channel, so that nobody in between can pass it on.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// The bodies of AuthenticationSASL after its code: what is offered without and with TLS.
const (
	Offer     = Mechanism + "\x00\x00"
	OfferPlus = MechanismPlus + "\x00" + Mechanism + "\x00\x00"
)

// bindingHeader begins a first message that is bound with the data of RFC 5929, section 4: PostgreSQL's only type.
const bindingHeader = "p=tls-server-end-point,,"

// maxSCRAMMessage bounds one SCRAM message from either side, in bytes.
const maxSCRAMMessage = 4096

// The outcomes of an exchange that are the other side's fault.
var (
	// ErrMalformed says that a SCRAM message breaks the protocol: SQLSTATE 08P01.
	ErrMalformed = errors.New("malformed SCRAM message")
	// ErrDenied says that the proof is wrong or the role is unknown: SQLSTATE 28P01, the same for both.
	ErrDenied = errors.New("password authentication failed")
	// ErrDowngrade says that the client believes that channel binding was not offered, although it was: SQLSTATE 28000.
	ErrDowngrade = errors.New("SCRAM channel binding negotiation error")
)

// Exchange is the server's side of one SCRAM-SHA-256 conversation. It is used once, by one goroutine.
type Exchange struct {
	verifier Verifier
	known    bool
	binding  []byte // of the TLS channel; empty: channel binding was not offered
	nonce    string // the server's part
	// kept from the client's first message, as the proof covers them
	gs2Header   []byte
	clientBare  []byte
	serverFirst []byte
	fullNonce   []byte
}

// newExchange starts a conversation; with known false it runs to its end and denies.
func newExchange(verifier Verifier, known bool, binding []byte) *Exchange {
	return &Exchange{verifier: verifier, known: known, binding: binding, nonce: newNonce()}
}

func newNonce() string {
	var raw [18]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(raw[:])
}

// First takes client-first-message, sent for the mechanism, and returns server-first-message.
func (e *Exchange) First(mechanism string, message []byte) ([]byte, error) {
	if len(message) > maxSCRAMMessage || bytes.IndexByte(message, 0) >= 0 || e.serverFirst != nil {
		return nil, ErrMalformed
	}
	header, err := e.header(mechanism, message)
	if err != nil {
		return nil, err
	}
	e.gs2Header = bytes.Clone(message[:header])
	e.clientBare = bytes.Clone(message[header:])
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

// header checks the gs2-header and returns its length. An authzid is refused as PostgreSQL does.
func (e *Exchange) header(mechanism string, message []byte) (int, error) {
	offered := len(e.binding) > 0
	switch {
	case mechanism == MechanismPlus && offered:
		if !bytes.HasPrefix(message, []byte(bindingHeader)) {
			return 0, fmt.Errorf("channel binding type: %w", ErrMalformed)
		}
		return len(bindingHeader), nil
	case mechanism != Mechanism:
		return 0, fmt.Errorf("SASL mechanism: %w", ErrMalformed)
	case bytes.HasPrefix(message, []byte("y,,")) && offered:
		return 0, ErrDowngrade
	case bytes.HasPrefix(message, []byte("n,,")), bytes.HasPrefix(message, []byte("y,,")):
		return 3, nil
	}
	return 0, fmt.Errorf("gs2 header: %w", ErrMalformed)
}

// channel is what c= of the final message must say: the header, and with channel binding the channel's data.
func (e *Exchange) channel() string {
	input := e.gs2Header
	if input[0] == 'p' {
		input = append(bytes.Clone(input), e.binding...)
	}
	return base64.StdEncoding.EncodeToString(input)
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
	if string(binding) != e.channel() {
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
func InitialResponse(body []byte) (mechanism string, message []byte, err error) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || len(rest) < 4 || len(name) > len(MechanismPlus) {
		return "", nil, fmt.Errorf("SASL mechanism: %w", ErrMalformed)
	}
	length := int64(int32(binary.BigEndian.Uint32(rest)))
	if length != int64(len(rest)-4) {
		return "", nil, fmt.Errorf("SASL initial response: %w", ErrMalformed)
	}
	return string(name), rest[4:], nil
}
