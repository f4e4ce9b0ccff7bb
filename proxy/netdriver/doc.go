// Package netdriver runs sessions (proxy/session) with goroutines on net.Conn: one goroutine reads each client, one each
// server connection, and whoever has read something runs the session under its mutex and writes what it says without
// blocking; what the kernel does not take at once is written by a third goroutine for as long as that lasts. So both
// directions always make progress, and an idle connection holds no buffer. It decides nothing about servers: it asks a
// Host. The main types are Driver and Client.
package netdriver
