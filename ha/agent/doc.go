// Package agent is the loop that owns one node: observe, decide, act. It gathers an ha.Observation from the store, the
// local PostgreSQL and this machine's clock, asks ha.Decide, and carries the decision out with two hands – the lease
// hand writes to the store, the PostgreSQL hand moves the instance – of which neither waits for the other. The loop
// itself waits for no store call, SQL statement, file system or child process, so that it can fence at any time. It
// decides nothing. The main type is Agent.
package agent
