// Package wire speaks PostgreSQL's frontend/backend protocol, version 3: it cuts byte streams into frames without
// allocating, encodes the messages that walgate itself says, decodes the few that it must understand, and keeps the
// account of the replies that a server still owes (Ledger). It is pure: no I/O, no goroutine. Layouts are those of the
// PostgreSQL documentation, "Message Formats".
package wire
