package session

import (
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
)

// scripted makes the attached (or next) servers silent: the test says what they answer.
func (r *rig) scripted(messages ...pgproto3.BackendMessage) string {
	r.fromServer(answer(messages...))
	return r.told()
}

func ready(status byte) *pgproto3.ReadyForQuery { return &pgproto3.ReadyForQuery{TxStatus: status} }

func failure(code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: "no"}
}

func tag(t string) *pgproto3.CommandComplete {
	return &pgproto3.CommandComplete{CommandTag: []byte(t)}
}

func TestCopyFailsBeforeItReads(t *testing.T) {
	begun := []pgproto3.BackendMessage{&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{},
		&pgproto3.CopyInResponse{}}
	end := wiretest.Encode(&pgproto3.CopyDone{}, &pgproto3.Sync{})
	t.Run("the client has ended the copy", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(wiretest.Extended("", "copy t from stdin"))
		r.expect("begins", r.scripted(begun...), "1 2 n G")
		r.send(end)
		r.expect("fails", r.scripted(failure("P0001"), ready('I'), ready('I')), "E(P0001) Z(I)")
		r.expectTrail("need write", "attach primary", "discard")
		r.hold = false
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
	})
	t.Run("at once", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(wiretest.Extended("", "copy v from stdin"))
		r.expect("fails", r.scripted(append(begun[:4:4], failure("42809"), ready('I'))...), "1 2 n G E(42809) Z(I)")
		r.expectTrail("need write", "attach primary", "discard")
		r.hold = false
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
	})
	t.Run("in a transaction", func(t *testing.T) {
		r := newRig(t)
		r.query("begin")
		r.hold = true
		r.send(wiretest.Extended("", "copy v from stdin"))
		r.expect("fails", r.scripted(append(begun[:4:4], failure("42809"), ready('E'))...), "1 2 n G E(42809) Z(E)")
		r.hold = false
		r.expect("failed", r.query("insert 1"), "E(25P02) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
	})
	t.Run("with more behind", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(wiretest.Extended("", "copy t from stdin"))
		r.scripted(begun...)
		r.send(append(end[:len(end):len(end)], wire.AppendQuery(nil, "insert 1")...))
		r.expect("fails", r.scripted(failure("P0001"), ready('I'), ready('I')), "E(P0001) Z(I) E(08007) Z(I)")
	})
}

