// Package login decides who a client is: the conversation from the StartupMessage to the session's AuthOutcome, in steps
// that any driver can carry out. It owns no socket and starts no goroutine; what must wait is handed to the driver as a
// function to run where waiting is allowed. It does not know servers: a Host answers for them. The main types are
// Checker, which begins conversations, and Step.
package login
