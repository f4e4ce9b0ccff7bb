// Package throughput measures what a proxy costs: CPU, latency, system calls and memory per transaction or client, of
// walgate and of other proxies in front of the same PostgreSQL. All endpoints run one after the other in every round, in
// an order of chance, and what is compared is the ratio of two runs of the same round: a machine that is slower in one
// round than in another is so for all of them. It knows walgate by its command line, its configuration and the wire only.
// The main types are Config and Report.
package throughput
