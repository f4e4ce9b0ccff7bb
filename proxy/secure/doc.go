// Package secure is TLS on both legs: which mode answers whom, certificates from files that can be read again, and a
// connection (Conn) that reads and writes without blocking, so that an idle one holds no read buffer and whoever writes
// to a slow one need not wait. It knows nothing of PostgreSQL's messages but the name of the protocol in ALPN. The main
// types are ClientLeg, ServerLeg and Conn.
package secure
