// Package api serves the REST API of one walgate process: the state of the cluster for tools (/v1/cluster), the paths
// and bodies that Patroni has for load balancers and scripts, metrics, a dashboard, and the verbs of an operator. Reads
// are answered from feeds and never touch the store or PostgreSQL. Verbs change the record by compare-and-swap, or ask
// the local node through Local; the package decides nothing about leadership. Server is the main type, Client its
// counterpart for the command line.
package api
