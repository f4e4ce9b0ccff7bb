package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/store"
)

// maxSwaps bounds how often a change of the record is tried again when another change came first.
const maxSwaps = 5

// change applies edit to the newest record by compare-and-swap. edit returns false when nothing is to be changed.
func (s *Server) change(ctx context.Context, edit func(*ha.Record) (bool, error)) error {
	for range maxSwaps {
		snapshot, err := s.deps.Records.Read(ctx)
		if err != nil {
			return err
		}
		if snapshot.Record == nil {
			return refuse(http.StatusPreconditionFailed, "", "the cluster has no record yet")
		}
		record := *snapshot.Record
		changed, err := edit(&record)
		if err != nil || !changed {
			return err
		}
		record.Version++
		_, err = s.deps.Records.PutRecord(ctx, snapshot.RecordRev, record)
		if err == nil || !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("the record changed %d times meanwhile: %w", maxSwaps, store.ErrConflict)
}

// Done is the body of a verb that has no more to say.
type Done struct {
	Done string `json:"done"`
}

func (s *Server) postPause(paused bool) http.HandlerFunc {
	word := map[bool]string{true: "paused", false: "resumed"}[paused]
	return func(w http.ResponseWriter, r *http.Request) {
		err := s.change(r.Context(), func(record *ha.Record) (bool, error) {
			if paused && record.Handoff != nil {
				return false, refuse(http.StatusConflict, "", "a switchover is under way")
			}
			changed := record.Paused != paused
			record.Paused = paused
			return changed, nil
		})
		if err != nil {
			s.writeError(w, err)
			return
		}
		s.deps.Log.Info("pause of the cluster changed", "cluster", word)
		writeJSON(w, http.StatusOK, Done{Done: word})
	}
}

// ErrRefused is wrapped by a Local that will not do what it is asked for now; the text is the reason.
var ErrRefused = errors.New("refused")

// localVerb asks the node of this process.
func (s *Server) localVerb(done string, verb func(Local, context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.deps.Local == nil {
			writeProblem(w, http.StatusNotImplemented, Problem{
				Error: "this process runs no PostgreSQL", Hint: "ask the API of the node; /v1/cluster lists them",
			})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.HandoffTimeout+s.cfg.EndWait)
		defer cancel()
		if err := verb(s.deps.Local, ctx); err != nil {
			if errors.Is(err, ErrRefused) {
				err = refuse(http.StatusPreconditionFailed, "", "%v", err)
			}
			s.writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, Done{Done: done})
	}
}
