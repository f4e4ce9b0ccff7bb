// Package guard is the fourth gate against two writers: a tiny process that is the postmaster's parent and a child
// subreaper, outlives the agent, and holds an absolute deadline on CLOCK_BOOTTIME. When the deadline passes, it kills
// the instance to the last process: SIGKILL to the postmaster, then to every process that the kernel hands to it, until
// wait(2) says ECHILD, which is the only proof of death. Run is the process, Client the agent's side of its socket.
package guard
