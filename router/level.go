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
	switch {
	case equalFold([]byte(s), "auto"):
		return TargetAuto, true
	case equalFold([]byte(s), "primary"):
		return TargetPrimary, true
	case equalFold([]byte(s), "replica"):
		return TargetReplica, true
	}
	return TargetUnset, false
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
	switch {
	case equalFold([]byte(s), "eventual"):
		return LevelEventual, true
	case equalFold([]byte(s), "bounded"):
		return LevelBounded, true
	case equalFold([]byte(s), "session"):
		return LevelSession, true
	case equalFold([]byte(s), "strong"):
		return LevelStrong, true
	}
	return LevelUnset, false
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

// Hint is what a leading comment /* walgate: target=replica consistency=eventual */ asks for.
type Hint struct {
	Target Target
	Level  Level
}
