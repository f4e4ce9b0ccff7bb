package session

import (
	"github.com/walgate/walgate/replication"
)

// ServerFacts is what is known of one server connection: identity, fixed by the pool at login, and the state that
// sessions leave on it, which only the attached session (or, while idle, the pool through Observe) changes.
type ServerFacts struct {
	ID   uint64 // unique in this process
	Node replication.NodeID
	Role replication.Role
	// Opened is when the connection had logged in.
	Opened replication.Instant
	Epoch  replication.Epoch // for a primary: the epoch under which it was opened; the gate is asked with it
	// ProcessID and Secret are the BackendKeyData of the server, for CancelRequests.
	ProcessID uint32
	Secret    []byte
	// Meter counts what sessions do here; nil: nobody wants to know.
	Meter *Meter
	// Defaults are what a session starts with here.
	Defaults Defaults
	// Definitions are those of the database; nil: nobody else tells.
	Definitions *Definitions

	borrower borrower
	// sequenced: the borrower has advanced a sequence here, so that currval tells it something.
	sequenced bool

	reported   []Parameter // ParameterStatus values as last seen, sorted by name
	settings   *settingSet // what sessions have set here, relative to a fresh login
	statements statementCache
	toClose    []string // statements whose names must be freed before they are used again
	defined    uint64   // +1 whenever something is defined here, also if nobody else sees it
}

// Defaults is what is in force on a fresh server connection and is not reported: values of postgresql.conf, ALTER ROLE
// and ALTER DATABASE.
type Defaults struct{ asyncCommits, hidesWarnings, steady bool }

// NewDefaults reads the values of synchronous_commit, client_min_messages and default_transaction_isolation.
func NewDefaults(synchronousCommit, clientMinMessages, isolation string) Defaults {
	return Defaults{asyncCommits: isOff(synchronousCommit), hidesWarnings: !showsWarnings(clientMinMessages),
		steady: isolation != "read committed" && isolation != "read uncommitted"}
}

// NewServerFacts makes the facts of a server connection that has just logged in. reported are the ParameterStatus
// values of its login; maxStatements bounds the prepared statements kept on it (least recently used ones are closed).
func NewServerFacts(id uint64, node replication.NodeID, role replication.Role, epoch replication.Epoch,
	reported []Parameter, maxStatements int) *ServerFacts {
	f := &ServerFacts{ID: id, Node: node, Role: role, Epoch: epoch, defined: 1}
	f.statements.limit = maxStatements
	for _, p := range reported {
		f.Observe(p.Name, p.Value)
	}
	return f
}

// Observe records a ParameterStatus that arrived while the connection was idle in the pool.
func (f *ServerFacts) Observe(name, value string) {
	for i := range f.reported {
		if f.reported[i].Name == name {
			f.reported[i].Value = value
			return
		}
	}
	f.reported = append(f.reported, Parameter{Name: name, Value: value})
}

// observe is Observe for texts that are borrowed.
func (f *ServerFacts) observe(name, value []byte) {
	for i := range f.reported {
		if f.reported[i].Name == string(name) {
			if f.reported[i].Value != string(value) {
				f.reported[i].Value = string(value)
			}
			return
		}
	}
	f.reported = append(f.reported, Parameter{Name: string(name), Value: string(value)})
}

// Reported returns the last ParameterStatus value of a parameter.
func (f *ServerFacts) Reported(name string) (string, bool) {
	for i := range f.reported {
		if f.reported[i].Name == name {
			return f.reported[i].Value, true
		}
	}
	return "", false
}

// ReportedAll returns all ParameterStatus values; the caller must not change them.
func (f *ServerFacts) ReportedAll() []Parameter { return f.reported }

// Statements is the number of statements that are prepared on the server.
func (f *ServerFacts) Statements() int { return len(f.statements.byName) }

// Sequenced reports whether the client that had the connection last has advanced a sequence: it may ask for the value.
func (f *ServerFacts) Sequenced() bool { return f.sequenced }

// lend notes whose the connection is.
func (f *ServerFacts) lend(client uint32) {
	if f.borrower.set(client) {
		f.sequenced = false
	}
}
