package readtest

import (
	"fmt"
	"time"
)

// Report is what the sessions of a Load saw.
type Report struct {
	Reads, Standby int64 // all, and those that a standby answered
	Writes         int64 // acknowledged
	Unknown        int64 // without an answer
	Errors         map[string]int64
	Elapsed        time.Duration

	// What must not be: a read of a session's own row without its last acknowledged write; a read that shows less than
	// the session saw before; a read without what was acknowledged to anybody before it began; a value that nobody wrote.
	Stale, Backward, Old, Invented Anomalies
	// Early counts the one kind of step back that is not promised away: a standby has shown a commit before its writer was
	// told of it, and the primary does not show it yet, because the commit has not come back from its wait. It is told
	// apart by what the sessions know: the value had only been seen on standbys, it was not acknowledged when the later
	// read began, and that read ran on the primary.
	Early Anomalies

	History []Operation
}

// Anomalies counts reads, and keeps the first ones as text.
type Anomalies struct {
	Count int64
	First []string
}

const maxShown = 5

func (a *Anomalies) add(format string, args ...any) {
	a.Count++
	if len(a.First) < maxShown {
		a.First = append(a.First, fmt.Sprintf(format, args...))
	}
}

// String is one line of figures.
func (r *Report) String() string {
	return fmt.Sprintf("%d reads (%d by standbys), %d writes, %d unknown, errors %v, in %s: stale %d, backward %d, early %d, old %d, invented %d",
		r.Reads, r.Standby, r.Writes, r.Unknown, r.Errors, r.Elapsed.Round(time.Millisecond),
		r.Stale.Count, r.Backward.Count, r.Early.Count, r.Old.Count, r.Invented.Count)
}

// read judges what a read showed.
type read struct {
	session, row int
	value        int64
	began        time.Duration
	standby      bool
	// What must be seen: own, the session's last acknowledged write of its row (0 elsewhere); seen, what its connection
	// saw before; acked, what was acknowledged to anybody when the read began; most, the newest value sent when it ended.
	own, acked, most int64
	seen             sight
}

// sight is what a connection has seen of a row: the newest value anywhere, and the newest on a primary.
type sight struct{ anywhere, primary int64 }

// least is what a read has to show that nobody may have seen less than before.
func (o *read) least() int64 {
	if o.standby {
		return o.seen.anywhere
	}
	return max(o.seen.primary, min(o.seen.anywhere, o.acked))
}

func (r *run) saw(o read) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rep := &r.report
	rep.Reads++
	where := "primary"
	if o.standby {
		where = "standby"
		rep.Standby++
	}
	text := func() string {
		return fmt.Sprintf("at %s session %d read %d of row %d on a %s; own %d, seen %d (on a primary %d), acknowledged %d, sent %d",
			o.began, o.session, o.value, o.row, where, o.own, o.seen.anywhere, o.seen.primary, o.acked, o.most)
	}
	if o.value < o.own {
		rep.Stale.add("%s", text())
	}
	switch {
	case o.value < o.least():
		rep.Backward.add("%s", text())
	case o.value < o.seen.anywhere:
		rep.Early.add("%s", text())
	}
	if o.value < o.acked {
		rep.Old.add("%s", text())
	}
	if o.value > o.most {
		rep.Invented.add("%s", text())
	}
	if o.row < r.Recorded {
		r.history = append(r.history, Operation{Row: o.row, Value: o.value, Began: o.began, Ended: r.now()})
	}
}
