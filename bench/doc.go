// Package bench measures a walgate cluster from outside, as its users feel it. Failover takes a running demo cluster (or
// starts one), puts real pgbench, fine-grained writers, idle sessions and writers past the proxy on it, injects a fault,
// and reports the outage, what went wrong for whom, and whether a row that was acknowledged is missing. It knows the
// cluster only by demo.json, the REST API and the wire: it imports nothing of walgate. The main types are Config and
// Report.
package bench
