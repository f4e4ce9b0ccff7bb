// Package auth proves who is at either end of a proxied connection: clients by SCRAM-SHA-256 against the verifiers of
// the cluster itself (RFC 5802, RFC 7677), walgate toward servers with the keys recovered from the client's proof, or
// with a password for its internal roles. It owns no socket: the drivers carry the messages. The main types are
// Directory, which knows verifiers and answers from its cache while there is no primary, and Exchange.
package auth
