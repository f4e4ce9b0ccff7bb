package session

import (
	"fmt"

	"github.com/walgate/walgate/proxy/wire"
)

const (
	severityError   = "ERROR"
	severityFatal   = "FATAL"
	severityWarning = "WARNING"
	severityNotice  = "NOTICE"
)

// The errors that walgate raises itself. Each has a SQLSTATE that drivers act upon rightly, a DETAIL that says what
// happened, and a HINT.
var (
	errHoldTimeout = &wire.ErrorFields{Severity: severityError, Code: "57P03",
		Message: "no server could take the statement in time",
		Detail:  "The statement was held until hold_timeout and was not sent to any server.",
		Hint:    "Repeat it; nothing was executed. The session and its settings are intact."}
	errUnknownOutcome = &wire.ErrorFields{Severity: severityError, Code: "08007",
		Message: "the server was lost while a commit was outstanding: its outcome is unknown",
		Detail:  "The statement or COMMIT was sent to the primary, and the primary was lost before it answered.",
		Hint:    "Look whether the transaction took effect before repeating it. The session is intact."}
	errLocalOnly = &wire.ErrorFields{Severity: severityError, Code: "08007",
		Message: "the transaction was committed on the primary, but not confirmed by a standby",
		Detail: "The wait for synchronous replication was cancelled: the transaction is committed locally and may " +
			"not be on a standby.",
		Hint: "Do not repeat the transaction. It would be lost if the primary failed before a standby received it."}
	errTransactionLost = &wire.ErrorFields{Severity: severityError, Code: "40001",
		Message: "the transaction was lost with its server",
		Detail:  "The server was lost before COMMIT was sent, so that the transaction was rolled back.",
		Hint:    "Roll back and repeat the transaction. The session is intact."}
	errTransactionEnded = &wire.ErrorFields{Severity: severityError, Code: "57P01",
		Message: "the transaction was ended for a change of the primary",
		Detail:  "It was still open when the time to drain the primary had passed, and was rolled back.",
		Hint:    "Roll back and repeat the transaction. The session is intact."}
	errServerLost = &wire.ErrorFields{Severity: severityError, Code: "08006",
		Message: "the server was lost during the statement",
		Detail:  "Part of the answer may have been received; nothing was committed by this statement.",
		Hint:    "Repeat the statement. The session is intact."}
	errStateLost = &wire.ErrorFields{Severity: severityError, Code: "08006",
		Message: "session state was lost with its server",
		Detail: "The session was bound to a server connection by state that can't be carried (temporary tables, " +
			"advisory locks, LISTEN and the like), and that connection is gone. The statement was not executed.",
		Hint: "Make that state again. Settings and prepared statements are intact."}
	errChangedShape = &wire.ErrorFields{Severity: severityError, Code: "0A000", Routine: "RevalidateCachedQuery",
		Message: "cached plan must not change result type",
		Detail:  "The columns or parameters of the prepared statement are not those that the client was told of.",
		Hint:    "Prepare the statement again."}
	errOnStandby = &wire.ErrorFields{Severity: severityError, Code: "0A000",
		Message: "advisory locks and notifications are those of the primary, and this transaction runs on a standby",
		Detail:  "It was opened as read only, and has done what can't be taken to the primary now.",
		Hint:    "Begin with it, or open the transaction with READ WRITE, or set walgate.target to primary."}
	errRecall = &wire.ErrorFields{Severity: severityError, Code: "55000",
		Message: "currval and lastval are not yet defined in this transaction",
		Detail: "Sequences remember their last value for each server connection, and this session got its one with this " +
			"transaction: the value would be that of another session.",
		Hint: "Use INSERT ... RETURNING, or call nextval before in the same transaction, or use session pooling."}
	errAborted = &wire.ErrorFields{Severity: severityError, Code: "25P02",
		Message: "current transaction is aborted, commands ignored until end of transaction block"}
	errLostWrite = &wire.ErrorFields{Severity: severityWarning, Code: "01000",
		Message: "a write that this session has seen did not survive the change of the primary",
		Detail:  "It was acknowledged after the position at which the new timeline begins.",
		Hint:    "Use a synchronous mode if acknowledged writes must survive every failover."}
	errLostWriteError = &wire.ErrorFields{Severity: severityError, Code: "40001", Message: errLostWrite.Message,
		Detail: errLostWrite.Detail + " The statement was not executed.",
		Hint:   "Look at the data again before going on. The session is intact, and is told this once."}
	errNoPortal = &wire.ErrorFields{Severity: severityError, Code: "34000", Message: "portal or statement does not exist"}
	errCanceled = &wire.ErrorFields{Severity: severityError, Code: "57014",
		Message: "canceling statement due to user request",
		Detail:  "The statement was waiting for a server and was not executed."}
	errQueryTimeout = &wire.ErrorFields{Severity: severityError, Code: "57014",
		Message: "canceling statement due to query timeout",
		Detail:  "The statement took longer than proxy.timeouts.query.",
		Hint:    "What the statement did is rolled back. The session is intact."}
	errQueryWait = &wire.ErrorFields{Severity: severityError, Code: "53300",
		Message: "no server connection became free in time",
		Detail:  "The statement waited for proxy.timeouts.query_wait and was not executed.",
		Hint:    "Repeat it later, or let the pool have more connections. The session is intact."}
	errTransactionTimeout = &wire.ErrorFields{Severity: severityFatal, Code: "25P04",
		Message: "terminating connection due to transaction timeout",
		Detail:  "The transaction took longer than proxy.timeouts.transaction, and was rolled back.",
		Hint:    "Connect again and repeat the transaction."}
	errIdleInTransaction = &wire.ErrorFields{Severity: severityFatal, Code: "25P03",
		Message: "terminating connection due to idle-in-transaction timeout",
		Detail:  "The client was silent for proxy.timeouts.idle_in_transaction; the transaction was rolled back."}
	errClientIdle = &wire.ErrorFields{Severity: severityFatal, Code: "57P05",
		Message: "terminating connection due to idle-session timeout",
		Detail:  "The client was silent for proxy.timeouts.client_idle."}
	errMessageTimeout = &wire.ErrorFields{Severity: severityFatal, Code: "08P01",
		Message: "the rest of a message did not come in time",
		Detail:  "The message took longer than proxy.timeouts.message and a second for each 64 KB of it."}
	errClientRead = &wire.ErrorFields{Severity: severityFatal, Code: "08006",
		Message: "terminating connection because the client does not take its answers",
		Detail:  "The client has taken nothing for proxy.timeouts.client_read."}
	noticeQueued = &wire.ErrorFields{Severity: severityNotice, Code: "00000",
		Message: "waiting for a free server connection"}
	noticeHeld = &wire.ErrorFields{Severity: severityNotice, Code: "00000",
		Message: "waiting for a primary", Detail: "The statement is held until there is one, or until hold_timeout."}
	errAdminShutdown = &wire.ErrorFields{Severity: severityFatal, Code: "57P01",
		Message: "terminating connection due to administrator command"}
	errBeginRefused = &wire.ErrorFields{Severity: severityError, Code: "0A000",
		Message: "transaction blocks are not allowed with statement pooling",
		Hint:    "Use the pool mode transaction for this database and user."}
	errBlockOpened = &wire.ErrorFields{Severity: severityFatal, Code: "0A000",
		Message: "transaction blocks are not allowed with statement pooling",
		Detail:  "A statement has left a transaction block open. It was rolled back.",
		Hint:    "Use the pool mode transaction for this database and user."}
	errAttach = &wire.ErrorFields{Severity: severityError, Code: "08004",
		Message: "no server connection could be made",
		Detail:  "The statement was not executed.", Hint: "Repeat the statement."}
	errProtocol = &wire.ErrorFields{Severity: severityFatal, Code: "08P01", Message: "invalid frontend message"}
	errStartup  = &wire.ErrorFields{Severity: severityFatal, Code: "08P01",
		Message: "invalid startup packet layout: expected terminator as last byte"}
	errNoUser = &wire.ErrorFields{Severity: severityFatal, Code: "28000",
		Message: "no PostgreSQL user name specified in startup packet"}
	errServerProtocol = &wire.ErrorFields{Severity: severityFatal, Code: "08P01",
		Message: "the server's answer does not fit the requests made",
		Detail:  "The server connection was closed."}
)

// failureFields turns a driver's failure into an error; without SQLSTATE it is otherwise.
func failureFields(f Failure, severity string, otherwise *wire.ErrorFields) *wire.ErrorFields {
	if f.SQLSTATE == "" {
		return otherwise
	}
	return &wire.ErrorFields{Severity: severity, Code: f.SQLSTATE, Message: f.Message, Detail: f.Detail, Hint: f.Hint}
}

// Fatal is the message with which a connection that is no session's ends.
func Fatal(f Failure) []byte {
	return wire.AppendErrorResponse(nil, *failureFields(f, severityFatal, errAdminShutdown))
}

// errNoStatement is PostgreSQL's error for a prepared statement that is not there.
func errNoStatement(name string) *wire.ErrorFields {
	message := "unnamed prepared statement does not exist"
	if name != "" {
		message = fmt.Sprintf("prepared statement %q does not exist", name)
	}
	return &wire.ErrorFields{Severity: severityError, Code: "26000", Message: message}
}

// errUnknownMessage is PostgreSQL's answer to a message type it does not know.
func errUnknownMessage(typ byte) *wire.ErrorFields {
	const digits = "0123456789"
	text := append([]byte("invalid frontend message type "), digits[typ/100], digits[typ/10%10], digits[typ%10])
	return &wire.ErrorFields{Severity: severityFatal, Code: "08P01", Message: string(text)}
}

// refusal is the error in place of that of a statement which is made to fail.
func refusal(why bits) *wire.ErrorFields {
	switch {
	case why&changedShape != 0:
		return errChangedShape
	case why&recalls != 0:
		return errRecall
	case why&elsewhere != 0:
		return errOnStandby
	}
	return errBeginRefused
}

// errDuringCopy is PostgreSQL's answer to a request during a copy.
func errDuringCopy(request byte) *wire.ErrorFields {
	return &wire.ErrorFields{Severity: severityError, Code: "08P01",
		Message: fmt.Sprintf("unexpected message type 0x%02X during COPY from stdin", request)}
}

// errVersion refuses a protocol version.
func errVersion(version string) *wire.ErrorFields {
	return &wire.ErrorFields{Severity: severityFatal, Code: "0A000",
		Message: "unsupported frontend protocol " + version + ": server supports 3.0 to 3.2"}
}

// errSettingValue refuses a value of one of walgate's own parameters.
func errSettingValue(severity, name, value, hint string) *wire.ErrorFields {
	return &wire.ErrorFields{Severity: severity, Code: "22023",
		Message: "invalid value for parameter \"" + name + "\": \"" + value + "\"",
		Hint:    hint}
}

// errLostToken tells of a token that stands for a write which is gone.
func errLostToken(severity string) *wire.ErrorFields {
	code := "40001"
	if severity == severityWarning {
		code = errLostWrite.Code
	}
	return &wire.ErrorFields{Severity: severity, Code: code,
		Message: "the token stands for a position that did not survive the change of the primary",
		Detail:  errLostWrite.Detail, Hint: "The session sees all that did survive. Look at the data again before going on."}
}

// errReplication refuses a value of the startup parameter replication.
func errReplication(value string) *wire.ErrorFields {
	return &wire.ErrorFields{Severity: severityFatal, Code: "22023",
		Message: "invalid value for parameter \"replication\": \"" + value + "\"",
		Hint:    "Valid values are: \"false\", 0, \"true\", 1, \"database\"."}
}

// errOptions refuses the startup parameter options.
func errOptions(option string) *wire.ErrorFields {
	return &wire.ErrorFields{Severity: severityFatal, Code: "42601",
		Message: "invalid command-line argument for server process: " + option}
}
