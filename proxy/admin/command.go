package admin

import "strings"

// Verb is what a Command does.
type Verb uint8

// The verbs. The comment names the fields of Command that are set.
const (
	Show       Verb = iota + 1 // Name: what, in lower case
	Pause                      // Name: a database, or empty: all
	Resume                     // as Pause
	Disable                    // Name: a database
	Enable                     // as Disable
	Kill                       // as Pause
	KillClient                 // ID
	Reconnect                  // as Pause
	WaitClose                  // as Pause
	Reload
	Shutdown // Name: empty, wait_for_servers or wait_for_clients
	Set      // Name, Value
	// accepted is what drivers say by themselves and what means nothing here: Name is the tag of the answer.
	accepted
	// one is SELECT of a number: Value.
	one
)

// Command is one command of the console.
type Command struct {
	Verb  Verb
	Name  string
	Value string
	ID    uint32
}

// verbs are the words that begin a command.
var verbs = map[string]Verb{
	"show": Show, "pause": Pause, "resume": Resume, "disable": Disable, "enable": Enable, "kill": Kill,
	"kill_client": KillClient, "reconnect": Reconnect, "wait_close": WaitClose, "reload": Reload, "shutdown": Shutdown, "set": Set,
}

// tags are the command tags that end the answers.
var tags = map[Verb]string{
	Show: "SHOW", Pause: "PAUSE", Resume: "RESUME", Disable: "DISABLE", Enable: "ENABLE", Kill: "KILL", KillClient: "KILL_CLIENT",
	Reconnect: "RECONNECT", WaitClose: "WAIT_CLOSE", Reload: "RELOAD", Shutdown: "SHUTDOWN", Set: "SET", one: "SELECT 1",
}

// blocks reports whether the command may take long.
func (c Command) blocks() bool {
	return c.Verb == Pause || c.Verb == WaitClose || c.Verb == Reload
}

func (c Command) tag() string {
	if c.Verb == accepted {
		return c.Name
	}
	return tags[c.Verb]
}

// helpText is SHOW HELP, and the hint of a syntax error.
const helpText = "SHOW POOLS|NODE_POOLS|CLIENTS|SERVERS|DATABASES|USERS|NODES|ROUTES|PREPARED\n" +
	"SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS|ERRORS|LISTS|MEM\n" +
	"SHOW VIEW|STATE|CONFIG|VERSION|HELP\n" +
	"PAUSE [db]  RESUME [db]  RECONNECT [db]  WAIT_CLOSE [db]  KILL [db]\n" +
	"DISABLE db  ENABLE db  KILL_CLIENT id\n" +
	"SET key = value  RELOAD  SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]"

// clientSettings are parameters of PostgreSQL that drivers set by themselves; the console accepts and ignores them.
var clientSettings = map[string]bool{
	"application_name": true, "bytea_output": true, "client_encoding": true, "client_min_messages": true, "datestyle": true,
	"default_transaction_isolation": true, "default_transaction_read_only": true, "extra_float_digits": true,
	"idle_in_transaction_session_timeout": true, "intervalstyle": true, "lock_timeout": true, "names": true, "search_path": true,
	"standard_conforming_strings": true, "statement_timeout": true, "synchronous_commit": true, "timezone": true,
	"session": true, "transaction": true, "local": true, "time": true,
}

// ignored are other statements that drivers send by themselves, with the tags of their answers.
var ignored = map[string]string{
	"begin": "BEGIN", "start": "START TRANSACTION", "commit": "COMMIT", "end": "COMMIT", "rollback": "ROLLBACK", "abort": "ROLLBACK",
	"discard": "DISCARD ALL", "deallocate": "DEALLOCATE ALL", "reset": "RESET", "unlisten": "UNLISTEN", "close": "CLOSE CURSOR ALL",
}

func lower(word string) string { return strings.ToLower(word) }
