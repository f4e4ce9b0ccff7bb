package router

// Target is where a session, or a comment, wants a statement to run.
type Target uint8

// The targets. TargetUnset leaves it to the next wider scope; Auto is the default of the widest.
const (
	TargetUnset Target = iota
	TargetAuto
	TargetPrimary
	TargetReplica
)

// ParseTarget reads auto, primary or replica, in any case.
func ParseTarget(s string) (t Target, ok bool) {
	t = targetOf([]byte(s))
	return t, t != TargetUnset
}

func targetOf(word []byte) Target {
	for t := TargetAuto; t <= TargetReplica; t++ {
		if equalFold(word, t.String()) {
			return t
		}
	}
	return TargetUnset
}

// String returns the word that users write.
func (t Target) String() string {
	switch t {
	case TargetAuto:
		return "auto"
	case TargetPrimary:
		return "primary"
	case TargetReplica:
		return "replica"
	default:
		return ""
	}
}

// Level is how fresh a read on a standby must be.
type Level uint8

// The levels, from weak to strong. LevelUnset leaves it to the next wider scope.
const (
	LevelUnset    Level = iota
	LevelEventual       // any streaming standby
	LevelBounded        // lag under the thresholds in bytes and time
	LevelSession        // bounded, and the session reads its own writes and never goes back in time
	LevelStrong         // everything acknowledged before the read arrived is visible
)

// ParseLevel reads eventual, bounded, session or strong, in any case.
func ParseLevel(s string) (l Level, ok bool) {
	l = levelOf([]byte(s))
	return l, l != LevelUnset
}

func levelOf(word []byte) Level {
	for l := LevelEventual; l <= LevelStrong; l++ {
		if equalFold(word, l.String()) {
			return l
		}
	}
	return LevelUnset
}

// String returns the word that users write.
func (l Level) String() string {
	switch l {
	case LevelEventual:
		return "eventual"
	case LevelBounded:
		return "bounded"
	case LevelSession:
		return "session"
	case LevelStrong:
		return "strong"
	default:
		return ""
	}
}

// Fallback is what becomes of a read that no standby may serve.
type Fallback uint8

// The fallbacks. FallbackUnset leaves it to the next wider scope.
const (
	FallbackUnset Fallback = iota
	FallbackPrimary
	FallbackError
)

// ParseFallback reads primary or error, in any case.
func ParseFallback(s string) (f Fallback, ok bool) {
	for f := FallbackPrimary; f <= FallbackError; f++ {
		if equalFold([]byte(s), f.String()) {
			return f, true
		}
	}
	return FallbackUnset, false
}

// String returns the word that users write.
func (f Fallback) String() string {
	switch f {
	case FallbackPrimary:
		return "primary"
	case FallbackError:
		return "error"
	default:
		return ""
	}
}

// Transactions says when a transaction that may write gets its server.
type Transactions uint8

// The choices. TransactionsUnset leaves it to the next wider scope.
const (
	TransactionsUnset   Transactions = iota
	TransactionsAtBegin              // at BEGIN
	TransactionsLazy                 // with its first statement: the primary
	TransactionsReads                // likewise, but a standby until the first statement that is not surely a read
)

// ParseTransactions reads begin, lazy or reads, in any case.
func ParseTransactions(s string) (t Transactions, ok bool) {
	for t := TransactionsAtBegin; t <= TransactionsReads; t++ {
		if equalFold([]byte(s), t.String()) {
			return t, true
		}
	}
	return TransactionsUnset, false
}

// String returns the word that users write.
func (t Transactions) String() string {
	switch t {
	case TransactionsAtBegin:
		return "begin"
	case TransactionsLazy:
		return "lazy"
	case TransactionsReads:
		return "reads"
	default:
		return ""
	}
}

// Hint is what a leading comment /* walgate: target=replica consistency=eventual tag=analytics */ asks for.
type Hint struct {
	Target Target
	Level  Level
	Tag    Span // the standbys to prefer: those that have this tag
	Token  Span // what the session must see
}
