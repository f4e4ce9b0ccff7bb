package router

import "bytes"

// statement reads one statement from its first token and stops at its end.
func (c *classifier) statement() {
	c.depth = 0
	for c.punct('(') {
		c.next() // (SELECT ...) UNION ...
		c.depth++
	}
	if c.tok.Kind != TokenWord {
		c.skip()
		return
	}
	if c.accept("select") { // most are
		c.v.Command = CommandSelect
		if !c.setConfigAlone() {
			c.readOnly(c.body(bodyQuery))
		}
		return
	}
	switch string(c.folded(c.tok)) {
	case "with", "values", "table":
		c.v.Command = CommandSelect
		c.readOnly(c.body(bodyQuery))
	case "insert", "update", "delete", "merge":
		if end := int(c.tok.End); end+1 < len(c.sql) && c.sql[end] == ' ' && byteClass[c.sql[end+1]]&byteIdentStart != 0 {
			c.next() // no call: the word tells nothing more
		}
		c.body(bodyWrite)
	case "begin", "start":
		c.next()
		c.begin()
	case "commit", "end", "rollback", "abort":
		c.finishTx()
	case "savepoint", "release":
		c.savepoint()
	case "set":
		c.next()
		c.set()
	case "reset":
		c.next()
		c.reset()
	case "show":
		c.next()
		c.show()
	case "explain":
		c.next()
		c.explain()
	case "copy":
		c.next()
		c.copy()
	case "prepare":
		c.next()
		c.prepare()
	case "execute":
		c.next()
		c.v.Command = CommandExecute
		c.v.Flags |= Executes
		c.v.Name = c.name()
		at := c.tok.Start
		c.body(bodyWrite)
		c.v.Value = Span{at, max(at, c.prev.End)}
	case "create":
		c.create()
	default:
		c.small()
	}
}

// small reads the statements that need one look.
func (c *classifier) small() {
	word := c.folded(c.tok)
	switch string(word) {
	case "deallocate":
		c.next()
		c.accept("prepare")
		c.v.Flags |= State
		c.nameOrAll(CommandDeallocate, CommandDeallocateAll)
	case "discard":
		c.next()
		c.discard()
	case "declare":
		c.next()
		c.declare()
	case "fetch", "move":
		c.v.Command = CommandFetch
		c.readOnly(c.body(bodyQuery))
	case "close":
		c.next()
		c.nameOrAll(CommandClose, CommandCloseAll)
	case "listen":
		c.next()
		c.v.Flags |= State | PinListen
		c.named(CommandListen)
	case "unlisten":
		c.next()
		c.v.Flags |= State
		c.v.Command = CommandUnlisten
		if c.tok.Kind == TokenOperator {
			c.v.Command = CommandUnlistenAll
		}
		c.v.Name = c.name()
		c.skip()
	case "notify":
		c.next()
		c.named(CommandNotify)
	case "load":
		c.v.Flags |= State | PinLoad
		c.plain(CommandLoad)
	case "call":
		c.v.Command, c.v.Flags = CommandCall, Opaque|MayCommit|Defines
		c.body(bodyWrite)
	case "do":
		c.v.Flags |= Opaque | MayCommit | Defines
		c.plain(CommandDo)
	case "lock":
		c.plain(CommandLock)
	case "checkpoint":
		c.plain(CommandCheckpoint)
	case "alter", "drop", "import":
		c.v.Flags |= Defines
		c.body(bodyDefinition)
	default:
		c.body(bodyDefinition) // GRANT, VACUUM, ..., and what nobody knows
	}
}

func (c *classifier) plain(command Command) {
	c.v.Command = command
	c.skip()
}

func (c *classifier) named(command Command) {
	c.v.Command = command
	c.v.Name = c.name()
	c.skip()
}

func (c *classifier) nameOrAll(one, all Command) {
	c.v.Command = one
	if c.word("all") {
		c.v.Command = all
	}
	c.v.Name = c.name()
	c.skip()
}

// readOnly notes that the statement read so far is a read, if its body was one and it does not set state.
func (c *classifier) readOnly(pure bool) {
	if pure {
		c.v.Kind = Read
	}
}

func (c *classifier) begin() {
	c.v.Command, c.v.Flags = CommandBegin, TxControl
	if c.accept("work") || c.accept("transaction") {
		c.txModes()
		return
	}
	c.txModes()
}

// txModes reads transaction modes to the end of the statement.
func (c *classifier) txModes() {
	for ; !c.ended(); c.next() {
		switch {
		case c.word("serializable"):
			c.v.Flags |= TxSerializable
		case c.word("repeatable"):
			c.v.Flags |= TxRepeatableRead
			if c.next(); c.ended() { // READ, which READ ONLY may follow
				return
			}
		case c.word("read"):
			c.next()
			if c.word("only") {
				c.v.Flags = c.v.Flags&^TxReadWrite | TxReadOnly
			} else if c.word("write") {
				c.v.Flags = c.v.Flags&^TxReadOnly | TxReadWrite
			}
			if c.ended() {
				return
			}
		case c.word("deferrable"):
			if !equalFold(c.text(c.prev), "not") {
				c.v.Flags |= TxDeferrable
			}
		case c.word("snapshot"):
			c.v.Flags |= NodeLocal
		}
	}
}

// finishTx reads COMMIT, END, ROLLBACK and ABORT.
func (c *classifier) finishTx() {
	commit := c.word("commit") || c.word("end")
	c.v.Command, c.v.Flags = CommandRollback, TxControl
	if commit {
		c.v.Command, c.v.Flags = CommandCommit, TxControl|MayCommit
	}
	c.next()
	if c.accept("prepared") {
		c.v.Flags |= TxPrepared | MayCommit
		c.plain(CommandTwoPhase)
		return
	}
	if !c.accept("work") {
		c.accept("transaction")
	}
	if c.accept("to") {
		c.accept("savepoint")
		c.named(CommandRollbackTo)
		return
	}
	if c.accept("and") && c.word("chain") {
		c.v.Flags |= TxChain
	}
	c.skip()
}

func (c *classifier) savepoint() {
	c.v.Flags |= TxControl
	release := c.word("release")
	c.next()
	if !release {
		c.named(CommandSavepoint)
		return
	}
	c.accept("savepoint")
	c.named(CommandRelease)
}

// explain reads EXPLAIN: a plan of a read is a read; with ANALYZE the statement runs, and its timing is the primary's.
func (c *classifier) explain() {
	analyze := false
	if c.punct('(') {
		for !c.punct(')') && !c.ended() {
			named := c.word("analyze") || c.word("analyse")
			if c.next(); named {
				analyze = !c.off()
			}
		}
		if !c.ended() {
			c.next()
		}
	} else {
		for c.word("analyze") || c.word("analyse") || c.word("verbose") {
			analyze = analyze || !c.word("verbose")
			c.next()
		}
	}
	if c.ended() {
		return
	}
	c.statement()
	if analyze || c.v.Command != CommandSelect {
		c.v.Kind = Write
	}
	if !analyze {
		c.v.Flags &= NodeLocal | Executes | Processes | OwnStatements
	}
	if !c.v.Flags.Has(Executes) {
		c.v.Name = Span{}
	}
	c.v.Command, c.v.Value = CommandExplain, Span{}
}

// off reports whether the value of an option is false.
func (c *classifier) off() bool {
	text := bytes.Trim(c.text(c.tok), "'\"")
	return equalFold(text, "off") || equalFold(text, "false") || string(text) == "0"
}

// copy reads COPY { table [(columns)] | (query) } { FROM | TO } { STDIN | STDOUT | 'file' | PROGRAM 'command' } ...
func (c *classifier) copy() {
	var pure bool
	if c.punct('(') {
		c.next()
		pure = c.body(bodyParenthesised)
		if c.ended() {
			return
		}
		c.next()
	} else {
		c.accept("binary")
		pure = c.copyTable() // COPY refuses views
		for !c.word("from") && !c.word("to") && !c.ended() {
			c.next()
		}
	}
	out := c.word("to")
	if c.ended() {
		return
	}
	c.next()
	switch {
	case out && c.word("stdout"), out && c.word("stdin"):
		c.v.Command = CommandCopyOut
		c.v.Flags |= CopyData
		c.skip() // nothing but options
		c.readOnly(pure)
	case c.word("stdin"), c.word("stdout"):
		c.v.Command = CommandCopyIn
		c.v.Flags |= CopyData
		c.body(bodyWrite)
	default:
		c.plain(CommandCopyFile)
	}
}

// copyTable reads the name of a table and reports whether a standby can read it.
func (c *classifier) copyTable() (pure bool) {
	for pure = true; c.tok.Kind == TokenWord || c.tok.Kind == TokenQuoted; c.next() {
		pure = !c.impure(chain{}) && pure
		if c.next(); !c.punct('.') {
			return pure
		}
	}
	return false
}

func (c *classifier) prepare() {
	if c.word("transaction") {
		c.v.Flags |= TxControl | TxPrepared | MayCommit
		c.plain(CommandPrepareTx)
		return
	}
	c.v.Command, c.v.Flags = CommandPrepare, State
	c.v.Name = c.name()
	if c.punct('(') {
		for !c.word("as") && !c.ended() {
			c.next()
		}
	}
	if c.accept("as") {
		c.v.Value = c.rest()
		return
	}
	c.skip()
}

func (c *classifier) declare() {
	c.v.Command = CommandDeclare
	c.v.Name = c.name()
	for !c.word("for") && !c.ended() {
		if c.word("hold") && equalFold(c.text(c.prev), "with") {
			c.v.Flags |= PinHoldCursor | State
		}
		c.next()
	}
	if c.ended() {
		return
	}
	c.next()
	pure := c.body(bodyQuery)
	c.readOnly(pure && !c.v.Flags.Has(PinHoldCursor))
}

func (c *classifier) discard() {
	c.v.Flags |= State
	switch {
	case c.word("all"):
		c.plain(CommandDiscardAll)
	case c.word("temp"), c.word("temporary"):
		c.plain(CommandDiscardTemp)
	case c.word("plans"):
		c.plain(CommandDiscardPlans)
	case c.word("sequences"):
		c.plain(CommandDiscardSequences)
	default:
		c.skip()
	}
}

// create reads CREATE as far as sessions care: temporary objects, and bodies that hold semicolons.
func (c *classifier) create() {
	c.v.Flags |= Defines
	c.next()
	if c.accept("or") {
		c.accept("replace")
	}
	if !c.accept("global") {
		c.accept("local")
	}
	switch {
	case c.word("temp"), c.word("temporary"):
		c.v.Flags |= PinTempTable | State
	case c.word("function"), c.word("procedure"):
		c.routine()
		return
	}
	c.body(bodyDefinition)
}

// routine skips CREATE FUNCTION or PROCEDURE, whose SQL-standard body BEGIN ATOMIC ... END holds statements.
func (c *classifier) routine() {
	parens, begins := 0, 0
	for ; ; c.next() {
		switch {
		case c.tok.Kind == TokenEnd || c.tok.Kind == TokenBad:
			return
		case c.punct('('):
			parens++
		case c.punct(')'):
			parens--
		case c.punct(';') && parens <= 0 && begins == 0:
			return
		case c.word("atomic") && begins == 0 && equalFold(c.text(c.prev), "begin"):
			begins = 1
		case begins > 0 && c.word("case"):
			begins++
		case begins > 0 && c.word("end"):
			begins--
		case c.word("pg_temp"):
			c.v.Flags |= PinTempTable | State
		}
	}
}
