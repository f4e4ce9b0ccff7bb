// Package sockets opens what a process listens on: TCP addresses and unix sockets of its own, or sockets that it was given
// by systemd or by the process that it replaces, and tells systemd how the process is. The main types are Spec and Set.
package sockets
