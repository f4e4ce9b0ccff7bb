package session

import (
	"strconv"
	"strings"
	"time"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Reads says where reads may run and how fresh they must be; zero values leave it to the next wider scope.
type Reads struct {
	Target   router.Target // ignored where the listener has one
	Level    router.Level
	Fallback router.Fallback
	// MaxLag and MaxLagBytes: NoLimit is none.
	MaxLag      time.Duration
	MaxLagBytes int64
	// Transactions: TransactionsUnset in all scopes counts as TransactionsAtBegin.
	Transactions router.Transactions
	Wait         time.Duration // how long a read waits for a standby that is not far enough; only in Config.Defaults
}

// NoLimit is a limit on lag that there is not.
const NoLimit = -1

// over returns r, completed by what wider says.
func (r Reads) over(wider *Reads) Reads {
	if r.Target == router.TargetUnset {
		r.Target = wider.Target
	}
	if r.Level == router.LevelUnset {
		r.Level = wider.Level
	}
	if r.Fallback == router.FallbackUnset {
		r.Fallback = wider.Fallback
	}
	if r.MaxLag == 0 {
		r.MaxLag = wider.MaxLag
	}
	if r.MaxLagBytes == 0 {
		r.MaxLagBytes = wider.MaxLagBytes
	}
	if r.Transactions == router.TransactionsUnset {
		r.Transactions = wider.Transactions
	}
	if r.Wait == 0 {
		r.Wait = wider.Wait
	}
	return r
}

// LostWrites says how a session is told that something it has seen did not survive a change of primary.
type LostWrites uint8

// The policies: a WARNING with the next answer, or an error instead of it.
const (
	LostNotice LostWrites = iota
	LostError
)

// walgate's own parameters. The values of the first ones are kept with the session's settings; token and route are not
// settings, but answer for the session.
const (
	ownPrefix       = "walgate."
	ownTarget       = "walgate.target"
	ownConsistency  = "walgate.consistency"
	ownMaxLag       = "walgate.max_lag"
	ownFallback     = "walgate.fallback"
	ownTransactions = "walgate.transactions"
	ownTag          = "walgate.tag"
	ownToken        = "walgate.token"
	ownRoute        = "walgate.route"
)

// ownReads is what a set of settings says about reads.
type ownReads struct {
	Reads
	tag string
}

// readOwn reads walgate's own parameters in the set; they have been checked.
func (a *settingSet) readOwn() {
	for _, e := range a.list {
		switch e.name {
		case ownTarget:
			a.own.Target, _ = router.ParseTarget(e.value)
		case ownConsistency:
			a.own.Level, _ = router.ParseLevel(e.value)
		case ownFallback:
			a.own.Fallback, _ = router.ParseFallback(e.value)
		case ownTransactions:
			a.own.Transactions, _ = router.ParseTransactions(e.value)
		case ownMaxLag:
			a.own.MaxLag, a.own.MaxLagBytes, _ = parseMaxLag(e.value)
		case ownTag:
			a.own.tag = e.value
		}
	}
}

// parseMaxLag reads a duration (500ms) or an amount of data (10MB); 0 and off lift both limits.
func parseMaxLag(text string) (d time.Duration, size int64, ok bool) {
	text = strings.TrimSpace(text)
	if text == "0" || strings.EqualFold(text, "off") {
		return NoLimit, NoLimit, true
	}
	if d, err := time.ParseDuration(strings.ToLower(text)); err == nil {
		return d, 0, d > 0
	}
	for _, unit := range [...]struct {
		name string
		size int64
	}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}, {"B", 1}} {
		digits, found := strings.CutSuffix(text, unit.name)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		return 0, n * unit.size, err == nil && n > 0 && n <= (1<<62)/unit.size
	}
	return 0, 0, false
}

// checkOwn checks the value of one of walgate's own parameters.
func checkOwn(severity, name, value string) *wire.ErrorFields {
	ok, choices := true, ""
	switch name {
	case ownTarget:
		_, ok = router.ParseTarget(value)
		choices = "Available values: auto, primary, replica."
	case ownConsistency:
		_, ok = router.ParseLevel(value)
		choices = "Available values: eventual, bounded, session, strong."
	case ownFallback:
		_, ok = router.ParseFallback(value)
		choices = "Available values: primary, error."
	case ownTransactions:
		_, ok = router.ParseTransactions(value)
		choices = "Available values: begin, lazy, reads."
	case ownMaxLag:
		_, _, ok = parseMaxLag(value)
		choices = "Available values: a duration (500ms, 10s), an amount of data (B, kB, MB, GB, TB), or 0 for no limit."
	case ownTag:
		ok = len(value) <= maxTag
		choices = "The value is the name of a tag of nodes."
	case ownToken:
		_, ok = router.ParseCausalToken(value)
		choices = "A token is what SHOW walgate.token has answered, EPOCH-X/X."
	case ownRoute:
		ok, choices = false, "It can only be shown."
	}
	if ok {
		return nil
	}
	return errSettingValue(severity, name, value, choices)
}

// maxTag bounds the names of tags.
const maxTag = 63

// reads is what holds for the session's next read.
func (s *Session) reads() (r Reads, tag string) {
	if own := s.wanted(); own != nil {
		r, tag = own.own.Reads, own.own.tag
	}
	r = r.over(&s.cfg.Reads)
	if s.rule != nil {
		r = r.over(s.rule)
	}
	r = r.over(&s.cfg.Defaults)
	if s.pinnedTarget() {
		r.Target = s.cfg.Target
	} else if r.Target == router.TargetUnset {
		r.Target = router.TargetAuto
	}
	if r.Level == router.LevelUnset {
		r.Level = router.LevelSession
	}
	return r, tag
}

// pinnedTarget reports whether the listener says where statements run.
func (s *Session) pinnedTarget() bool {
	return s.cfg.Target != router.TargetAuto && s.cfg.Target != router.TargetUnset
}

// target is where the session wants its statements to run.
func (s *Session) target() router.Target {
	r, _ := s.reads()
	return r.Target
}

// level is the session's consistency level.
func (s *Session) level() router.Level {
	r, _ := s.reads()
	return r.Level
}

// makeNeed makes the Need of the turn.
func (s *Session) makeNeed(now, ticket replication.Instant) Need {
	t := &s.turn
	r, tag := s.reads()
	target := r.Target
	if t.hint.Target != router.TargetUnset && !s.pinnedTarget() {
		r.Target = t.hint.Target
	}
	if t.hint.Level != router.LevelUnset {
		r.Level = t.hint.Level
	}
	if t.tag != "" {
		tag = t.tag
	}
	kind := router.Read
	if t.write || !t.complete || t.flush || s.mode == PoolSession || s.retry.primary {
		kind = router.Write
	}
	if r.Level == router.LevelStrong && t.block {
		kind = router.Write // its later statements would not see what is acknowledged meanwhile
	}
	if isolation, ok := s.settings.now.want.value("default_transaction_isolation"); ok && isolation == "serializable" {
		kind = router.Write
	}
	if (t.begins || s.reopening != nil) && !s.mayBeLazy(&r) {
		kind = router.Write
	}
	if s.reopening != nil && kind == router.Write && t.hint.Target == router.TargetReplica {
		r.Target = target // the comment is about a statement, not about the transaction that begins with it
	}
	if s.retry.primary {
		r.Target = router.TargetPrimary
	}
	if kind == router.Read && r.Level == router.LevelSession && r.Wait < s.cfg.ReturnWait &&
		(s.consistency.OnStandby() || s.comeback.attempt()) {
		r.Wait = s.cfg.ReturnWait
	}
	return Need{
		Kind: kind, Target: r.Target, Level: r.Level, Consistency: s.consistency, Arrival: now, Ticket: ticket,
		MaxLag: max(r.MaxLag, 0), MaxLagBytes: max(r.MaxLagBytes, 0), Fallback: r.Fallback, Wait: r.Wait, Tag: tag,
		Proven: s.proven, ProvenAfter: s.provenAfter, Tried: s.retry.tried,
	}
}
