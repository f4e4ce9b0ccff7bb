package ha

import (
	"github.com/walgate/walgate/replication"
)

// follow is what every node does that does not hold the lease: stand by, and stand ready. fence has been asked before,
// so PostgreSQL is in recovery if it runs.
func (t *tick) follow() Decision {
	in := &t.Instance
	switch in.Directory {
	case DirectoryForeign:
		return t.because("refused: the data directory holds files that are no PostgreSQL cluster")
	case DirectoryAbsent, DirectoryEmpty:
		return t.clone()
	case DirectoryBroken:
		return t.restore(Verdict{Kind: VerdictReclone, Why: "an interrupted clone or rewind left the data directory unusable"})
	}
	if v, ok := t.uselessCopy(); ok && t.sourceReady() {
		return t.restore(v)
	}
	switch in.Process {
	case ProcessStarting:
		return t.because("PostgreSQL is starting")
	case ProcessStopping:
		t.postgres(PostgresMove{Kind: PostgresStopFast})
		return t.because("PostgreSQL is stopping")
	case ProcessRunning:
		if t.hung() {
			t.postgres(PostgresMove{Kind: PostgresKillWhole})
			return t.because("killing PostgreSQL: it hangs")
		}
		if t.leaderless() {
			return t.stand()
		}
		return t.attach()
	default:
		return t.boot()
	}
}

// leaderless reports whether there is nobody to follow: the beat has expired or carries a release, or this node itself
// held the lease last.
func (o *Observation) leaderless() bool {
	return o.Store.Beat == nil || o.Store.Beat.Release != nil || o.Store.Record.Primary == o.Self.Name || o.expired()
}

// boot starts a stopped directory: following the primary if it is known to be a prefix of it, else following nobody,
// to find out where its WAL ends.
func (t *tick) boot() Decision {
	if t.Now < t.Instance.RetryAt {
		t.wake(t.Instance.RetryAt)
		return t.because("PostgreSQL does not start: trying again soon")
	}
	in, l := &t.Instance, t.Instance.Lineage
	copied := l != nil && l.Copied
	if t.leaderless() && !copied {
		t.startFrozen()
		return t.because("starting as standby of nobody: there is no primary")
	}
	v := t.verdict()
	switch {
	case v.Kind == VerdictRefuse:
		return t.because("refused: %s", v.Why)
	case (v.Kind == VerdictRewind || v.Kind == VerdictReclone) && t.sourceReady():
		return t.restore(v)
	case in.Clean && !in.End.Known() && !copied:
		if in.Attempts > 2*rewindAttempts && t.sourceReady() {
			return t.restore(Verdict{Kind: VerdictReclone, Why: "the end of its WAL cannot be read"})
		}
		if t.Now < in.RetryAt {
			t.wake(in.RetryAt)
			return t.because("the end of the WAL can't be read: trying again soon")
		}
		t.postgres(PostgresMove{Kind: PostgresReadEnd})
		return t.because("reading the end of the WAL, to compare it with the ledger")
	case !t.leaderless() && t.follows(l) && l.Primary != t.Self.Name && t.risk() == "":
		next := t.lineage()
		next.Copied = copied
		t.postgres(PostgresMove{Kind: PostgresStart, Source: l.Primary, Lineage: next})
		return t.because("starting as standby of %s", l.Primary)
	case copied:
		return t.because("the directory is a copy that needs more WAL of epoch %d: waiting for its primary", l.Epoch)
	}
	t.startFrozen()
	return t.because("starting as standby of nobody, to compare its WAL with the ledger: %s", v.Why)
}

// uselessCopy reports whether the directory is a copy that was never consistent, and whose primary leads no more.
func (t *tick) uselessCopy() (Verdict, bool) {
	in := &t.Instance
	if l := in.Lineage; l == nil || !l.Copied || in.Process == ProcessRunning || t.follows(l) {
		return Verdict{}, false
	}
	return Verdict{Kind: VerdictReclone, Why: "the copy was not finished before the primary changed"}, true
}

// follows reports whether the lineage says that this node follows in the record's epoch already.
func (o *Observation) follows(l *Lineage) bool {
	rec := o.Store.Record
	return l != nil && l.SystemID == rec.SystemID && l.Epoch == rec.Epoch && l.Primary == rec.Primary
}

// risk returns why this node must not follow the primary yet: it may have promised not to.
func (t *tick) risk() string {
	rec := t.Store.Record
	if t.Lease.VoteRisk <= rec.Epoch {
		return ""
	}
	t.d.Lease = LeaseMove{Kind: LeaseUnvote, Vote: &Vote{Epoch: t.Lease.VoteRisk, Node: t.Self.Name, Withdrawn: true}}
	return "taking this node's vote back first"
}

// attach makes the running standby follow the living primary, if its WAL allows it.
func (t *tick) attach() Decision {
	rec, in := t.Store.Record, &t.Instance
	t.wake(t.Store.BeatSince.Add(t.ttl()))
	v := t.verdict()
	switch v.Kind {
	case VerdictStart:
		if why := t.risk(); why != "" {
			return t.because("%s", why)
		}
		switch follows := in.Follows == rec.Primary && t.follows(in.Lineage); {
		case follows && !in.Lineage.Copied:
			if len(in.Slots) > 0 {
				t.postgres(PostgresMove{Kind: PostgresSlots}) // those of its time as primary would pin WAL for ever
			}
			return t.because("standby of %s", rec.Primary)
		case follows: // consistent now: a copy no more
		case in.Follows != "" || in.ReceiverAlive:
			// Until the old stream is gone its end moves on, and what was compared is not what would follow.
			t.postgres(PostgresMove{Kind: PostgresFreeze})
			return t.because("dropping the stream from %s before it is compared with epoch %d", in.Follows, rec.Epoch)
		case t.unsettled():
			return t.because("waiting for fresh facts of PostgreSQL")
		}
		t.postgres(PostgresMove{Kind: PostgresFollow, Source: rec.Primary, Lineage: t.lineage()})
		return t.because("following %s in epoch %d: %s", rec.Primary, rec.Epoch, v.Why)
	case VerdictRefuse:
		t.postgres(PostgresMove{Kind: PostgresStopFast})
		return t.because("refused: %s", v.Why)
	case VerdictWait:
	default:
		if in.Follows == "" && !in.ReceiverAlive && t.sourceReady() {
			return t.restore(v)
		}
	}
	if in.Follows != "" || in.ReceiverAlive {
		t.postgres(PostgresMove{Kind: PostgresFreeze})
	}
	return t.because("standby of nobody: %s", v.Why)
}

// stand is what a standby does without a primary: freeze, vote, claim.
func (t *tick) stand() Decision {
	in, beat := &t.Instance, t.Store.Beat
	if beat != nil && beat.Release != nil && beat.Release.To == t.Self.Name && in.ReceiverAlive &&
		in.End < beat.Release.LSN && !t.passed(t.Store.BeatSince, t.Timing.RPC) {
		return t.because("the handed over WAL is still arriving")
	}
	if in.Follows != "" || in.ReceiverAlive {
		t.postgres(PostgresMove{Kind: PostgresFreeze})
		return t.because("no primary: dropping the WAL receiver before the vote")
	}
	if t.unsettled() {
		return t.because("no primary: waiting for fresh facts of PostgreSQL")
	}
	why, ok := t.claim()
	if ok {
		return t.d
	}
	if pos, known := t.position(); known && !t.voted(pos) && beat != nil && t.joined() {
		epoch := t.Store.Record.Epoch + 1
		t.d.Lease = LeaseMove{Kind: LeaseVote, VoteRev: t.voteRev(epoch), Vote: &Vote{
			Epoch: epoch, Node: t.Self.Name, Origin: pos.Origin, Timeline: pos.Timeline, LSN: pos.LSN,
		}}
		return t.because("no primary: voting for epoch %d with %v", epoch, pos.LSN)
	}
	return t.because("no primary: %s", why)
}

// joined reports whether this node is a member already.
func (o *Observation) joined() bool {
	_, found := memberIndex(o.Store.Record.Members, o.Self.Name)
	return found
}

// voteRev returns the revision of this node's vote key, 0 when there is none.
func (o *Observation) voteRev(epoch replication.Epoch) int64 {
	for _, v := range o.Store.Votes {
		if v.Vote.Node == o.Self.Name && v.Vote.Epoch == epoch {
			return v.Rev
		}
	}
	return 0
}
