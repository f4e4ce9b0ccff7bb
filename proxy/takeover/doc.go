// Package takeover lets a new process of a proxy take over from the running one without a client noticing: it passes the
// listening sockets over a unix socket, and CancelRequests between all processes of the proxy that still have clients.
// What a process does at each step is its own business. The main types are Holder, Successor and Mesh.
package takeover
