package auth

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// ErrServerProof says that the server did not prove that it knows the role's verifier.
var ErrServerProof = errors.New("server could not prove that it knows the password")

// ErrStaleKeys says that the server has another verifier of the role than those that clients have proved to know: its
// password was changed, and nobody has logged in with the new one yet.
var ErrStaleKeys = errors.New("the role's password has changed since its last login through this proxy")

// Client is walgate's side of a SCRAM-SHA-256 conversation with a server. It is used once, by one goroutine.
type Client struct {
	secret      Secret
	nonce       string
	clientBare  []byte
	serverProof Key
	finished    bool
}

// NewClient starts a conversation that proves secret.
func NewClient(secret Secret) *Client { return &Client{secret: secret, nonce: newNonce()} }

// First returns client-first-message. No channel binding is used, and the role is that of the startup packet.
func (c *Client) First() []byte {
	c.clientBare = []byte("n=,r=" + c.nonce)
	return append([]byte("n,,"), c.clientBare...)
}

// Final takes server-first-message and returns client-final-message. With a password it costs one PBKDF2 run.
func (c *Client) Final(serverFirst []byte) ([]byte, error) {
	if len(serverFirst) > maxSCRAMMessage {
		return nil, ErrMalformed
	}
	nonce, rest, err := attribute(serverFirst, 'r')
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(nonce, []byte(c.nonce)) || len(nonce) == len(c.nonce) {
		return nil, fmt.Errorf("nonce: %w", ErrMalformed)
	}
	salt64, rest, err := attribute(rest, 's')
	if err != nil {
		return nil, err
	}
	salt, err := base64.StdEncoding.DecodeString(string(salt64))
	if err != nil || len(salt) == 0 {
		return nil, fmt.Errorf("salt: %w", ErrMalformed)
	}
	count, _, err := attribute(rest, 'i')
	if err != nil {
		return nil, err
	}
	iterations, err := strconv.Atoi(string(count))
	if err != nil || iterations < 1 || iterations > maxIterations {
		return nil, fmt.Errorf("iterations: %w", ErrMalformed)
	}
	keys, ok := c.secret.keysFor(salt, iterations)
	switch {
	case ok:
	case c.secret.Password == "":
		return nil, ErrStaleKeys
	default:
		if keys, err = deriveKeys(c.secret.Password, salt, iterations); err != nil {
			return nil, err
		}
	}
	withoutProof := append([]byte("c=biws,r="), nonce...)
	message := fmt.Appendf(nil, "%s,%s,%s", c.clientBare, serverFirst, withoutProof)
	stored := storedKey(keys.ClientKey)
	proof := xor(keys.ClientKey, sign(stored[:], message))
	c.serverProof = sign(keys.ServerKey[:], message)
	c.finished = true
	return base64.StdEncoding.AppendEncode(append(withoutProof, ",p="...), proof[:]), nil
}

// Verify takes server-final-message and checks the server's proof.
func (c *Client) Verify(serverFinal []byte) error {
	if !c.finished || len(serverFinal) > maxSCRAMMessage {
		return ErrMalformed
	}
	proof64, _, err := attribute(serverFinal, 'v')
	if err != nil {
		return err
	}
	proof, err := base64.StdEncoding.DecodeString(string(proof64))
	if err != nil || subtle.ConstantTimeCompare(proof, c.serverProof[:]) != 1 {
		return ErrServerProof
	}
	return nil
}
