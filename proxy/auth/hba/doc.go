// Package hba reads rules in the syntax of PostgreSQL's pg_hba.conf and maps in that of pg_ident.conf, and says which
// rule holds for a client. It asks nobody: who is a member of which role is not known here. The main types are Rules and
// Maps, which are never changed once they are read.
package hba
