// Package loop runs sessions (proxy/session) of clear-text connections on epoll loops: each loop is one goroutine that
// owns its sockets, clients and server connections alike, reads each ready one once into a buffer that all share, and
// writes what the session says at once. A transaction costs two reads, two writes and a share of a wait. An idle client
// is a few hundred bytes without a buffer. What blocks (the lookup of a password, say) is done by goroutines that report
// back; connections that want TLS, the console or replication are handed to another driver before their login. The main
// types are Driver and, inside, loop.
package loop
