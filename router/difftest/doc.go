// Package difftest compares router's Lexer with PostgreSQL's own scanner, as libpg_query packs it. It is a Go module of
// its own, so that walgate itself needs neither cgo nor that library. It holds tests only.
package difftest
