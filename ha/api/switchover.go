package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/replication"
)

// SwitchoverRequest is the body of POST /v1/switchover and /v1/failover.
type SwitchoverRequest struct {
	From string `json:"from,omitempty"` // refuse unless this node is the primary
	To   string `json:"to,omitempty"`   // empty: the best candidate
}

// SwitchoverResult says how a switchover ended.
type SwitchoverResult struct {
	From    replication.NodeID `json:"from"`
	To      replication.NodeID `json:"to"`
	Epoch   replication.Epoch  `json:"epoch"`
	Took    time.Duration      `json:"took"`              // until the old primary streamed, nanoseconds
	PauseMS int64              `json:"pause_ms"`          // without a primary, as the record tells
	Warning string             `json:"warning,omitempty"` // the new primary works, but not all is as it should be
}

// refusal is an error that a client is told with its own status code: nothing has happened.
type refusal struct {
	status int
	reason string
	hint   string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, hint, format string, args ...any) error {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...), hint: hint}
}

// writeError answers with what the error says.
func (s *Server) writeError(w http.ResponseWriter, err error) {
	var r *refusal
	switch {
	case errors.As(err, &r):
		writeProblem(w, r.status, Problem{Error: r.reason, Hint: r.hint})
	case errors.Is(err, store.ErrConflict):
		writeProblem(w, http.StatusConflict, Problem{Error: err.Error(), Hint: "the record changed meanwhile: try again"})
	case errors.Is(err, context.DeadlineExceeded):
		writeProblem(w, http.StatusGatewayTimeout, Problem{Error: err.Error()})
	default:
		writeProblem(w, http.StatusServiceUnavailable, Problem{Error: err.Error()})
	}
}

func (s *Server) postSwitchover(w http.ResponseWriter, r *http.Request) {
	var request SwitchoverRequest
	if err := readBody(w, r, &request); err != nil {
		writeProblem(w, http.StatusBadRequest, Problem{Error: err.Error()})
		return
	}
	result, err := s.switchover(r.Context(), request, s.cfg.DrainTimeout)
	if err != nil {
		s.writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, result)
}

// failoverDrain is how long a failover asked for by an operator waits for open transactions.
const failoverDrain = 100 * time.Millisecond

// postFailover moves the primary away without waiting for transactions. When the primary is gone there is nothing to
// ask for: members replace it by themselves as soon as one of them may, and the answer says what they wait for.
func (s *Server) postFailover(w http.ResponseWriter, r *http.Request) {
	var request SwitchoverRequest
	if err := readBody(w, r, &request); err != nil {
		writeProblem(w, http.StatusBadRequest, Problem{Error: err.Error()})
		return
	}
	result, err := s.switchover(r.Context(), request, failoverDrain)
	if err != nil {
		s.writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, result)
}

// HandOver moves the primary away from a node that is about to stop. It returns when the new primary takes writes, or
// why there is none; then nothing has changed.
func (s *Server) HandOver(ctx context.Context, from replication.NodeID) (SwitchoverResult, error) {
	handoff, asked, err := s.ask(ctx, SwitchoverRequest{From: string(from)}, s.cfg.DrainTimeout)
	if err != nil {
		return SwitchoverResult{}, err
	}
	result, _, err := s.awaitPrimary(ctx, handoff, asked)
	return result, err
}

// switchover hands over, and waits for the old primary to stream.
func (s *Server) switchover(ctx context.Context, request SwitchoverRequest, drain time.Duration) (SwitchoverResult, error) {
	started := time.Now()
	before := s.deps.Board.Load()
	handoff, asked, err := s.ask(ctx, request, drain)
	if err != nil {
		return SwitchoverResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandoffTimeout+s.cfg.EndWait)
	defer cancel()
	result, record, err := s.awaitPrimary(ctx, handoff, asked)
	if err != nil {
		return result, err
	}
	result.Warning = s.awaitStandby(ctx, handoff, record)
	if result.Warning == "" {
		s.awaitOthers(ctx, record, before)
	}
	result.Took = time.Since(started)
	return result, nil
}

// ask writes the handoff into the record.
func (s *Server) ask(ctx context.Context, request SwitchoverRequest, drain time.Duration) (ha.Handoff, ha.Record, error) {
	snapshot, err := s.deps.Records.Read(ctx)
	if err != nil {
		return ha.Handoff{}, ha.Record{}, err
	}
	handoff, err := s.plan(snapshot, s.deps.Board.Load(), request, drain)
	if err != nil {
		return ha.Handoff{}, ha.Record{}, err
	}
	record := *snapshot.Record
	record.Version++
	record.Handoff = &handoff
	if _, err := s.deps.Records.PutRecord(ctx, snapshot.RecordRev, record); err != nil {
		return ha.Handoff{}, ha.Record{}, fmt.Errorf("ask for the switchover: %w", err)
	}
	s.deps.Log.Info("switchover asked for", "from", handoff.From, "to", handoff.To, "id", handoff.ID)
	return handoff, record, nil
}

// plan checks that a switchover can succeed, and says what to write. Every refusal means that nothing has happened.
func (s *Server) plan(snapshot store.Snapshot, board replication.StatusBoard, request SwitchoverRequest, drain time.Duration) (ha.Handoff, error) {
	record := snapshot.Record
	switch {
	case record == nil:
		return ha.Handoff{}, refuse(http.StatusPreconditionFailed, "", "the cluster has no record yet")
	case record.Paused:
		return ha.Handoff{}, refuse(http.StatusPreconditionFailed, "walgate resume", "the cluster is paused")
	case record.Handoff != nil:
		return ha.Handoff{}, refuse(http.StatusConflict, "", "a switchover from %s to %s is under way", record.Handoff.From, record.Handoff.To)
	case record.Primary == "" || !record.Open:
		return ha.Handoff{}, refuse(http.StatusPreconditionFailed, waitingFor(snapshot), "there is no primary that takes writes: members choose one by themselves")
	case request.From != "" && request.From != string(record.Primary):
		return ha.Handoff{}, refuse(http.StatusPreconditionFailed, "", "%s is not the primary, %s is", request.From, record.Primary)
	}
	from := record.Primary
	if _, alive := snapshot.Node(from); !alive && !board.Status(from).Reachable {
		return ha.Handoff{}, refuse(http.StatusPreconditionFailed, waitingFor(snapshot),
			"primary %s does not answer and can hand nothing over: members replace it by themselves when its lease has expired", from)
	}
	to, err := s.candidate(snapshot, board, replication.NodeID(request.To))
	if err != nil {
		return ha.Handoff{}, err
	}
	return ha.Handoff{
		ID: rand.Text(), From: from, To: to, Phase: ha.HandoffPrepare, DrainTimeout: drain, CancelOpen: true,
		Deadline: s.cfg.HandoffTimeout,
	}, nil
}

// waitingFor collects what the members say.
func waitingFor(snapshot store.Snapshot) string {
	text := ""
	for _, n := range snapshot.Nodes {
		if n.Why != "" {
			text += fmt.Sprintf("%s: %s. ", n.Name, n.Why)
		}
	}
	return text
}

// candidate returns the wanted member if it may become primary, or the best one.
func (s *Server) candidate(snapshot store.Snapshot, board replication.StatusBoard, wanted replication.NodeID) (replication.NodeID, error) {
	record := snapshot.Record
	if wanted != "" {
		i := slices.IndexFunc(record.Members, func(m ha.Member) bool { return m.Name == wanted })
		if i < 0 {
			return "", refuse(http.StatusNotFound, "", "%s is no member of this cluster", wanted)
		}
		if why := s.objection(record.Members[i], snapshot, board); why != "" {
			return "", refuse(http.StatusPreconditionFailed, "", "%s cannot take over: %s", wanted, why)
		}
		return wanted, nil
	}
	var able []replication.NodeID
	reasons := ""
	for _, m := range record.Members {
		if m.Name == record.Primary {
			continue
		}
		if why := s.objection(m, snapshot, board); why != "" {
			reasons += fmt.Sprintf("%s: %s. ", m.Name, why)
			continue
		}
		able = append(able, m.Name)
	}
	if len(able) == 0 {
		return "", refuse(http.StatusPreconditionFailed, reasons, "no member can take over")
	}
	return slices.MinFunc(able, func(a, b replication.NodeID) int {
		return cmp.Or(
			cmp.Compare(rank(a, record.Sync.Voters), rank(b, record.Sync.Voters)),
			cmp.Compare(board.Status(a).LagBytes, board.Status(b).LagBytes),
			cmp.Compare(a, b))
	}), nil
}

// rank puts voters first: they hold what was acknowledged already.
func rank(name replication.NodeID, voters []replication.NodeID) int {
	if slices.Contains(voters, name) {
		return 0
	}
	return 1
}

// objection says why the member cannot become primary; empty when it can.
func (s *Server) objection(m ha.Member, snapshot store.Snapshot, board replication.StatusBoard) string {
	status := board.Status(m.Name)
	_, alive := snapshot.Node(m.Name)
	switch {
	case m.Name == snapshot.Record.Primary:
		return "it is the primary"
	case m.Tags["nofailover"] == "true":
		return "it is tagged nofailover"
	case !alive:
		return "its agent does not answer"
	case !status.Reachable:
		return "its PostgreSQL does not answer"
	case status.Role != replication.RoleStandby || !status.Streaming:
		return "it does not stream from the primary"
	case status.Timeline != 0 && status.Timeline != snapshot.Record.Timeline:
		return fmt.Sprintf("it is on timeline %d, the primary on %d", status.Timeline, snapshot.Record.Timeline)
	case status.LagBytes > s.cfg.SwitchoverMaxLag:
		return fmt.Sprintf("it is %d bytes behind, %d are allowed", status.LagBytes, s.cfg.SwitchoverMaxLag)
	}
	return ""
}

// awaitPrimary waits until the handoff has ended and somebody takes writes.
func (s *Server) awaitPrimary(ctx context.Context, handoff ha.Handoff, asked ha.Record) (SwitchoverResult, ha.Record, error) {
	result := SwitchoverResult{From: handoff.From, To: handoff.To}
	snapshot, err := s.deps.Snapshots.Wait(ctx, func(now store.Snapshot) bool {
		r := now.Record
		return r != nil && r.Version >= asked.Version && (r.Handoff == nil || r.Handoff.ID != handoff.ID) &&
			(r.Open || r.Epoch == asked.Epoch)
	})
	if err != nil {
		return result, ha.Record{}, refuse(http.StatusGatewayTimeout, waitingFor(s.deps.Snapshots.Load()),
			"the switchover from %s to %s was begun and its end was not seen in time", handoff.From, handoff.To)
	}
	r := *snapshot.Record
	result.Epoch = r.Epoch
	switch {
	case r.Epoch == asked.Epoch:
		return result, r, refuse(http.StatusConflict, waitingFor(snapshot), "the switchover was called off, %s is still the primary", handoff.From)
	case r.Primary != handoff.To:
		return result, r, refuse(http.StatusConflict, waitingFor(snapshot), "%s did not take over in time, %s is the primary now", handoff.To, r.Primary)
	}
	if r.Last != nil && r.Last.Epoch == r.Epoch {
		result.PauseMS = r.Last.PauseMS
	}
	return result, r, nil
}

// awaitStandby waits until the old primary streams; it returns a warning when it does not.
func (s *Server) awaitStandby(ctx context.Context, handoff ha.Handoff, record ha.Record) (warning string) {
	_, err := s.deps.Board.Wait(ctx, func(board replication.StatusBoard) bool {
		to := board.Status(handoff.To)
		return to.Reachable && to.Role == replication.RolePrimary && streams(board, handoff.From, record)
	})
	if err == nil {
		return ""
	}
	report, _ := s.deps.Snapshots.Load().Node(handoff.From)
	return fmt.Sprintf("%s takes writes, but %s does not stream yet: %s", handoff.To, handoff.From, cmp.Or(report.Why, "its agent gives no reason"))
}

// othersWait is how long a switchover that is done waits for the members that had no part in it.
const othersWait = 5 * time.Second

// awaitOthers waits a little until all members that streamed before stream again, so that who asks next sees a cluster
// at rest. One that does not has no part in the outcome.
func (s *Server) awaitOthers(ctx context.Context, record ha.Record, before replication.StatusBoard) {
	ctx, cancel := context.WithTimeout(ctx, othersWait)
	defer cancel()
	_, _ = s.deps.Board.Wait(ctx, func(board replication.StatusBoard) bool {
		for _, m := range record.Members {
			if m.Name != record.Primary && before.Status(m.Name).Streaming && !streams(board, m.Name, record) {
				return false
			}
		}
		return true
	})
}

func streams(board replication.StatusBoard, name replication.NodeID, record ha.Record) bool {
	status := board.Status(name)
	return status.Reachable && status.Role == replication.RoleStandby && status.Streaming && status.Timeline >= record.Timeline
}
