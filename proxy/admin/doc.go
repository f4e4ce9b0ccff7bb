// Package admin is the console over the wire: it answers SHOW and carries out PAUSE, RESUME, RECONNECT, KILL and the like,
// with PgBouncer's names, columns and types wherever the meaning is the same. It reads the messages of a connection that
// is logged in already and formats the answers; what there is to show and how a command is done is the Proxy's. The main
// type is Console.
package admin
