// Package router answers one question: on which server may this statement run? It reads SQL as PostgreSQL's scanner
// does (Lexer), sorts a query string by what it may do (Classify, giving a Verdict), keeps what a session must be able
// to see (Consistency), and chooses a node from the View and the StatusBoard (Pick). It is pure: no clock, no I/O, no
// goroutine, and no allocation on the way of a statement. It never parses: what it does not recognise is a write.
package router
