// Package pool keeps server connections: it opens them, logs in, checks that the server is what the view says it is,
// lends each to one session at a time within a Budget per (node, database, user), and drops those that a newer epoch
// has fenced off. It reads nothing from a connection after the login (the driver does) and does not choose nodes. The
// main type is Set.
package pool
