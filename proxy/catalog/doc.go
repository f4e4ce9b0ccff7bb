// Package catalog keeps a router.Catalog for every database in use: what its functions, views, tables and operators mean
// for routing, as its own system catalogs tell. One goroutine reads them, from the primary, and looks again when a
// session has defined something and from time to time; a fingerprint spares the reading when nothing has changed. It
// decides nothing about statements. The main type is Set.
package catalog
