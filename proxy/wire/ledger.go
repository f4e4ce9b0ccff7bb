package wire

// Kind is a request that a server owes an answer for.
type Kind uint8

// The kinds, with the answers they are owed.
const (
	OwedParse             Kind = iota + 1 // 1
	OwedBind                              // 2
	OwedDescribeStatement                 // t, then T or n
	OwedDescribePortal                    // T or n
	OwedExecute                           // D..., or a copy, then C, I or s
	OwedClose                             // 3
	OwedSync                              // Z
	OwedQuery                             // anything, then Z
	OwedFunction                          // V, then Z
	// OwedLocal is answered by the proxy itself when everything before it has been answered.
	OwedLocal
	// OwedCopyEnd marks where the client sent CopyDone or CopyFail; it is owed nothing.
	OwedCopyEnd
)

// EndsTurn reports whether the request is answered with ReadyForQuery.
func (k Kind) EndsTurn() bool { return k == OwedSync || k == OwedQuery || k == OwedFunction }

// Owed is one request whose answer has not come (whole). Ref is the owner's.
type Owed[R any] struct {
	Kind Kind
	// Injected requests were not made by the client: what answers them is swallowed.
	Injected bool
	step     uint8
	Ref      R
}

// Ledger is the account of what a server owes, in the order of the requests. Requests must be pushed in the order in
// which they are written. The zero Ledger owes nothing.
type Ledger[R any] struct {
	queue []Owed[R]
	head  int
	// copyIn: the server reads CopyData until CopyDone or CopyFail, and ignores Sync and Flush.
	copyIn bool
	// ignored: a Sync is taken to have been read during the copy, and so to be owed nothing.
	ignored bool
	// skipping: after an error the server ignores everything up to the next Sync, which has not been sent.
	skipping bool
}

// Len is the number of requests that are owed an answer.
func (l *Ledger[R]) Len() int { return len(l.queue) - l.head }

// Skipping reports whether the server ignores everything up to a Sync that has not been sent yet. Only Sync may be
// pushed then.
func (l *Ledger[R]) Skipping() bool { return l.skipping }

// CopyIn reports whether the server reads CopyData now, as far as is known.
func (l *Ledger[R]) CopyIn() bool { return l.copyIn }

// IgnoreSync notes that a Sync is written during COPY IN.
func (l *Ledger[R]) IgnoreSync() { l.ignored = true }

// SyncIgnored reports whether a Sync was sent for the copy that goes on, which its server ignores if it reads it while
// it copies, but answers if the copy fails before that.
func (l *Ledger[R]) SyncIgnored() bool { return l.ignored }

// Head returns the oldest request; nil when nothing is owed.
func (l *Ledger[R]) Head() *Owed[R] {
	if l.head == len(l.queue) {
		return nil
	}
	return &l.queue[l.head]
}

// At returns the i-th oldest request.
func (l *Ledger[R]) At(i int) *Owed[R] { return &l.queue[l.head+i] }

// Push notes a request that is being written. A Sync during COPY IN is ignored by servers and must not be pushed
// (see CopyIn); a CopyEnd ends the copy.
func (l *Ledger[R]) Push(o Owed[R]) {
	switch o.Kind {
	case OwedSync:
		l.skipping = false
	case OwedCopyEnd:
		if l.copyIn || l.head == len(l.queue) {
			l.copyIn = false
			return
		}
	default:
		l.copyIn = false // the server answers with an error
	}
	if l.head > 0 && len(l.queue) == cap(l.queue) {
		l.compact()
	}
	l.queue = append(l.queue, o)
}

func (l *Ledger[R]) compact() {
	n := copy(l.queue, l.queue[l.head:])
	clear(l.queue[n:])
	l.queue = l.queue[:n]
	l.head = 0
}

// keptRequests bounds what an empty ledger keeps.
const keptRequests = 12

// Pop removes the oldest request.
func (l *Ledger[R]) Pop() {
	var none Owed[R]
	l.queue[l.head] = none
	l.head++
	if l.head == len(l.queue) {
		l.head = 0
		l.queue = l.queue[:0]
		if cap(l.queue) > keptRequests {
			l.queue = nil
		}
		return
	}
	if l.queue[l.head].Kind == OwedCopyEnd {
		l.Pop()
	}
}

// Reset forgets everything.
func (l *Ledger[R]) Reset() {
	clear(l.queue)
	queue := l.queue[:0]
	if cap(queue) > keptRequests {
		queue = nil
	}
	*l = Ledger[R]{queue: queue}
}

// Accept takes a message of the server other than E, N, S and A. fits says whether the oldest request can be answered
// so, done whether that answers it; the caller pops it then.
func (l *Ledger[R]) Accept(typ byte) (fits, done bool) {
	o := l.Head()
	if o == nil {
		return false, false
	}
	switch o.Kind {
	case OwedParse:
		return typ == '1', typ == '1'
	case OwedBind:
		return typ == '2', typ == '2'
	case OwedClose:
		return typ == '3', typ == '3'
	case OwedDescribeStatement:
		if o.step == 0 {
			o.step = 1
			return typ == 't', false
		}
		return typ == 'T' || typ == 'n', typ == 'T' || typ == 'n'
	case OwedDescribePortal:
		return typ == 'T' || typ == 'n', typ == 'T' || typ == 'n'
	case OwedSync:
		return typ == 'Z', typ == 'Z'
	case OwedFunction:
		return typ == 'V' || typ == 'Z', typ == 'Z'
	case OwedExecute, OwedQuery:
		return l.acceptRun(typ, o.Kind == OwedQuery)
	default:
		return false, false
	}
}

func (l *Ledger[R]) acceptRun(typ byte, query bool) (fits, done bool) {
	switch typ {
	case 'D', 'd', 'c', 'H', 'W':
		return true, false
	case 'G':
		l.beginCopyIn()
		return true, false
	case 'T', 'Z':
		return query, typ == 'Z'
	case 'C', 'I':
		l.copyIn, l.ignored = false, false
		return true, !query
	case 's':
		return !query, !query
	default:
		return false, false
	}
}

// beginCopyIn drops the Syncs that the client sent behind the request before the end of its copy: the server ignores
// them.
func (l *Ledger[R]) beginCopyIn() {
	l.copyIn = true
	for i := l.head + 1; i < len(l.queue); {
		switch l.queue[i].Kind {
		case OwedSync:
			l.ignored = true
			l.remove(i)
		case OwedCopyEnd:
			l.copyIn = false
			l.remove(i)
			return
		default:
			l.copyIn = false
			return
		}
	}
}

func (l *Ledger[R]) remove(i int) {
	copy(l.queue[i:], l.queue[i+1:])
	var none Owed[R]
	l.queue[len(l.queue)-1] = none
	l.queue = l.queue[:len(l.queue)-1]
}

// Fail takes an ErrorResponse. In the extended protocol everything up to the next Sync is void: undo is called for
// each such request, newest first, and they are removed. A Query or Function stays until its ReadyForQuery.
func (l *Ledger[R]) Fail(undo func(o *Owed[R])) {
	l.ignored = false
	o := l.Head()
	if o == nil {
		return
	}
	if o.Kind.EndsTurn() {
		l.copyIn = false
		l.dropCopyEnd()
		return
	}
	n := l.head
	for n < len(l.queue) && l.queue[n].Kind != OwedSync {
		n++
	}
	l.skipping = n == len(l.queue)
	l.copyIn = false
	for i := n - 1; i >= l.head; i-- {
		if l.queue[i].Kind != OwedCopyEnd {
			undo(&l.queue[i])
		}
	}
	var none Owed[R]
	for i := l.head; i < n; i++ {
		l.queue[i] = none
	}
	l.head = n
	if l.head == len(l.queue) {
		l.head, l.queue = 0, l.queue[:0]
	}
}

// dropCopyEnd removes the mark behind a simple query whose copy has failed: the server ignores it.
func (l *Ledger[R]) dropCopyEnd() {
	for l.head+1 < len(l.queue) && l.queue[l.head+1].Kind == OwedCopyEnd {
		l.remove(l.head + 1)
	}
}
