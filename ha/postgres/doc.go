// Package postgres owns one PostgreSQL instance: its data directory, settings, roles, slots, postmaster and end. Instance
// has one method per move of an HA agent; each is bounded by its context, safe to repeat, and decides no policy: when to
// promote, whom to follow and who may kill is the agent's business. The postmaster is a child of the guard (package
// guard), a tiny process that outlives the agent and kills the instance at an absolute deadline. PostgreSQL 13 to 18.
package postgres
