// Package replication holds the words that the rest of walgate speaks: positions in the write-ahead log, timelines and
// their history, node names, epochs, and the two values in which the proxy and the HA module meet – the View
// (authoritative: who is primary) and the StatusBoard (advisory: where each node says it is). It acts on nothing: a
// Feed and a Gate share a value between goroutines, and that is all the concurrency there is.
package replication
