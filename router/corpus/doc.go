// Package corpus holds statements for which it is known whether they may run on a standby, for tests: a schema, and files
// of statements by topic. It knows nothing of routing itself; the main type is Statement.
package corpus
