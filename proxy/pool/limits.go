package pool

import (
	"errors"
	"net"
	"time"
)

// Limits bound the connections of one database and user, for each node by itself. Zero means no limit, except for Max.
type Limits struct {
	Max      int // connections of a Budget; more than 0
	Min      int // of a Budget that has been used, kept open while they are idle
	Reserve  int // beyond Max, once the first in the queue has waited for Config.ReserveTimeout
	Database int // connections to the database, of all users together
	User     int // connections of the user, to all databases together
}

// TCP are the settings with which the kernel finds out that a peer is gone; see tcp(7).
type TCP struct {
	KeepaliveIdle     time.Duration // silence before the first probe
	KeepaliveInterval time.Duration // between probes
	KeepaliveCount    int           // unanswered probes that end the connection
	UserTimeout       time.Duration // unacknowledged bytes end it after this (Linux); 0 leaves it to the kernel
}

// Apply sets them on a connection; one that is not TCP is left alone.
func (t TCP) Apply(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	// An error means that the connection is closed: whoever uses it next will see that.
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: t.KeepaliveIdle, Interval: t.KeepaliveInterval, Count: t.KeepaliveCount,
	})
	if t.UserTimeout > 0 {
		setUserTimeout(tcp, t.UserTimeout)
	}
}

// ApplyListener sets them on a listening socket, from which connections that are accepted without package net inherit
// them (Linux); so they do TCP_NODELAY.
func (t TCP) ApplyListener(l net.Listener) {
	if tcp, ok := l.(*net.TCPListener); ok {
		t.applyListener(tcp)
	}
}

// Validate checks the values.
func (t TCP) Validate() error {
	if t.KeepaliveIdle <= 0 || t.KeepaliveInterval <= 0 || t.KeepaliveCount <= 0 || t.UserTimeout < 0 {
		return errors.New("pool: keepalive idle, interval and count must be positive, and the user timeout not negative")
	}
	return nil
}

// scope names the limit that leaves no room for a connection.
type scope uint8

const (
	scopeNone scope = iota
	scopeDatabase
	scopeUser
	scopeNode
)

// room counts the connections to one node that share limits.
type room struct {
	max       int // of the node; 0: no limit
	open      int
	databases map[string]int
	users     map[string]int
}

// full names the limit that a further connection of key would break.
func (r *room) full(key Key, l Limits) scope {
	switch {
	case r.max > 0 && r.open >= r.max:
		return scopeNode
	case l.Database > 0 && r.databases[key.Database] >= l.Database:
		return scopeDatabase
	case l.User > 0 && r.users[key.User] >= l.User:
		return scopeUser
	}
	return scopeNone
}

func (r *room) add(key Key) {
	r.open++
	r.databases[key.Database]++
	r.users[key.User]++
}

func (r *room) remove(key Key) {
	r.open--
	take(r.databases, key.Database)
	take(r.users, key.User)
}

func take(counts map[string]int, name string) {
	if counts[name]--; counts[name] == 0 {
		delete(counts, name)
	}
}

// relieves reports whether the end of a connection of key makes room for one of another that the scope is too full for.
func (s scope) relieves(wanted, key Key) bool {
	switch s {
	case scopeDatabase:
		return wanted.Database == key.Database
	case scopeUser:
		return wanted.User == key.User
	case scopeNode:
		return true
	}
	return false
}
