package admin

import (
	"fmt"
	"strconv"
	"strings"
)

// SyntaxError says what is wrong with a text, for the client.
type SyntaxError struct {
	Message string
	// Unknown: the beginning is no command; a list of them helps.
	Unknown bool
}

// Error implements error.
func (e *SyntaxError) Error() string { return e.Message }

// maxCommands bounds the commands in one text.
const maxCommands = 100

// Parse reads commands separated by semicolons. Words are case-insensitive; names in double quotes are taken as they
// are, and unquoted ones too, as PgBouncer does it: a database's name is not folded to lower case. The error is a
// *SyntaxError.
func Parse(text string) ([]Command, error) {
	var all []Command
	l := lexer{text: text}
	for {
		words, err := l.statement()
		if err != nil {
			return nil, err
		}
		if len(words) == 0 {
			if l.at >= len(l.text) {
				return all, nil
			}
			continue
		}
		if len(all) == maxCommands {
			return nil, &SyntaxError{Message: fmt.Sprintf("more than %d commands at a time", maxCommands)}
		}
		c, err := command(words)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
}

// command makes one command of its words.
func command(words []token) (Command, error) {
	first := words[0]
	name, args := lower(first.text), words[1:]
	if first.kind != word {
		return Command{}, unknown(words)
	}
	if tag, ok := ignored[name]; ok {
		return Command{Verb: accepted, Name: tag}, nil
	}
	if name == "select" {
		return selectNumber(words)
	}
	verb, ok := verbs[name]
	if !ok {
		return Command{}, unknown(words)
	}
	switch verb {
	case Show:
		return show(args)
	case Set:
		return set(args)
	case Reload:
		return Command{Verb: verb}, atMost(args, 0, name)
	case KillClient:
		return killClient(args)
	case Shutdown:
		return shutdown(args)
	case Disable, Enable:
		if len(args) == 0 {
			return Command{}, &SyntaxError{Message: "a database is required"}
		}
	}
	c := Command{Verb: verb}
	if err := atMost(args, 1, name); err != nil {
		return Command{}, err
	}
	if len(args) == 1 {
		if args[0].kind == symbol || args[0].text == "" {
			return Command{}, misplaced(args[0])
		}
		c.Name = args[0].text
	}
	return c, nil
}

func show(args []token) (Command, error) {
	if len(args) == 0 {
		return Command{}, &SyntaxError{Message: "SHOW needs to know what", Unknown: true}
	}
	c := Command{Verb: Show, Name: lower(args[0].text)}
	if len(args) > 1 && c.Name == "transaction" { // SHOW TRANSACTION ISOLATION LEVEL
		return Command{Verb: Show, Name: "transaction_isolation"}, nil
	}
	if args[0].kind == symbol {
		return Command{}, misplaced(args[0])
	}
	return c, atMost(args, 1, "show")
}

func set(args []token) (Command, error) {
	if len(args) > 0 && clientSettings[lower(args[0].text)] {
		return Command{Verb: accepted, Name: "SET"}, nil
	}
	if len(args) < 3 || args[0].kind == symbol || args[1].text != "=" && lower(args[1].text) != "to" || args[2].kind == symbol {
		return Command{}, &SyntaxError{Message: "SET is written as SET key = value"}
	}
	return Command{Verb: Set, Name: lower(args[0].text), Value: args[2].text}, atMost(args, 3, "set")
}

func killClient(args []token) (Command, error) {
	if len(args) == 0 {
		return Command{}, &SyntaxError{Message: "KILL_CLIENT needs the id of a client; SHOW CLIENTS lists them"}
	}
	id, err := strconv.ParseUint(args[0].text, 10, 32)
	if err != nil {
		return Command{}, &SyntaxError{Message: fmt.Sprintf("%q is not the id of a client", clip(args[0].text))}
	}
	return Command{Verb: KillClient, ID: uint32(id)}, atMost(args, 1, "kill_client")
}

func shutdown(args []token) (Command, error) {
	c := Command{Verb: Shutdown}
	if len(args) > 0 {
		c.Name = lower(args[0].text)
		if c.Name != WaitForServers && c.Name != WaitForClients {
			return Command{}, misplaced(args[0])
		}
	}
	return c, atMost(args, 1, "shutdown")
}

// The ways to shut down but at once.
const (
	WaitForServers = "wait_for_servers"
	WaitForClients = "wait_for_clients"
)

// selectNumber is what pools and monitors send to see whether a connection lives.
func selectNumber(words []token) (Command, error) {
	if len(words) == 2 && words[1].kind == word {
		if _, err := strconv.ParseInt(words[1].text, 10, 32); err == nil {
			return Command{Verb: one, Value: words[1].text}, nil
		}
	}
	return Command{}, &SyntaxError{Message: "the console knows no SELECT but that of a number", Unknown: true}
}

func atMost(args []token, n int, verb string) error {
	if len(args) > n {
		return &SyntaxError{Message: fmt.Sprintf("%s does not take %q", strings.ToUpper(verb), clip(args[n].text))}
	}
	return nil
}

func misplaced(t token) error {
	return &SyntaxError{Message: fmt.Sprintf("syntax error at or near %q", clip(t.text))}
}

func unknown(words []token) error {
	return &SyntaxError{Message: fmt.Sprintf("unknown command %q", clip(words[0].text)), Unknown: true}
}

// clip keeps messages short.
func clip(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
