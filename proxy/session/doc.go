// Package session is one client session of the proxy as a state machine without I/O: events go into Handle, actions
// come out, and a driver (proxy/netdriver, proxy/loop) carries them out. It decides which server a turn needs, what is
// forwarded, what is answered by walgate itself, when a server connection may be given back, and what a client is told
// when a server dies. It has no socket, goroutine, clock or logger; time is an argument. The main type is Session.
package session
