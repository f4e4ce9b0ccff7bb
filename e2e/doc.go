// Package e2e holds nothing but tests: they build the walgate binary with the race detector, run real clusters with
// `walgate demo`, break them in every way that DESIGN's promises speak of, and look at what clients were told and what
// is left. It imports no other package of walgate, so that it sees what users see: the command line, demo.json, the
// API, and the PostgreSQL protocol. WALGATE_E2E_BINARY names a binary to test instead of a fresh one, and
// WALGATE_E2E_FAILOVERS how many faults TestFailoversInARow makes (default 20).
package e2e
