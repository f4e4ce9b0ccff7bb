package session

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
)

// played are the processes that work for clients on the node a.
type played map[uint32]uint32

func (p played) ServerOf(node replication.NodeID, client uint32) uint32 {
	if node != "a" {
		return 0
	}
	return p[client]
}

func (p played) ClientOf(_ replication.NodeID, process uint32) uint32 {
	for client, its := range p {
		if its == process {
			return client
		}
	}
	return 0
}

// newProcessRig makes a rig with a session that is pinned to the process 42 of the primary.
func newProcessRig(t *testing.T) *rig {
	r := newRig(t)
	r.cfg.Processes = played{5000001: 77}
	r.s.id = 5000000
	r.query("listen x")
	r.srv.ProcessID = 42
	return r
}

func TestProcessesInQueries(t *testing.T) {
	r := newProcessRig(t)
	for sql, want := range map[string]string{
		"select pg_terminate_backend(5000001)":                                "select pg_terminate_backend(77)",
		"select pg_cancel_backend(5000000)":                                   "select pg_cancel_backend(42)",
		"select pg_blocking_pids(5000002)":                                    "select pg_blocking_pids(5000002)",
		"select pg_blocking_pids(77)":                                         "select pg_blocking_pids(77)",
		"select 5000001 from t":                                               "select 5000001 from t",
		"select * from pg_locks where pid = any('{5000000,1,5000001}')":       "select * from pg_locks where pid = any('{42,1,77}')",
		"select * from pg_locks where pid in (5000001.5, 15000001, x5000001)": "select * from pg_locks where pid in (5000001.5, 15000001, x5000001)",
		"insert into killed select pg_terminate_backend(pid) from pg_stat_activity where pid=5000001": "insert into killed select " +
			"pg_terminate_backend(pid) from pg_stat_activity where pid=77",
	} {
		r.query(sql)
		log := r.servers[r.srv].Log
		if got := log[len(log)-1]; got != want {
			t.Errorf("%q\n got  %q\n want %q", sql, got, want)
		}
	}
}

// TestProcessesInStatements holds that a prepared statement means the process of the moment at which it is run.
func TestProcessesInStatements(t *testing.T) {
	r := newProcessRig(t)
	last := func() string {
		log := r.servers[r.srv].Log
		return log[len(log)-1]
	}
	const sql = "select pg_blocking_pids(5000001)"
	for _, name := range []string{"", "p"} {
		r.cfg.Processes = played{5000001: 77}
		r.send(wiretest.Extended(name, sql))
		r.expect("at first", last(), "select pg_blocking_pids(77)")
		r.cfg.Processes = played{5000001: 78}
		again := ""
		if name == "" { // the unnamed statement stays as it was parsed
			again = sql
		}
		r.send(wiretest.Extended(name, again))
		r.expect("later", last(), "select pg_blocking_pids(78)")
		r.cfg.Processes = played{}
		r.send(wiretest.Extended(name, again))
		r.expect("without a server", last(), sql)
	}
}

func TestProcessesInParameters(t *testing.T) {
	r := newProcessRig(t)
	bind := &pgproto3.Bind{ParameterFormatCodes: []int16{0, 1, 1, 0, 0}, ResultFormatCodes: []int16{1}, Parameters: [][]byte{
		[]byte("5000001"), binary.BigEndian.AppendUint32(nil, 5000000), []byte("5000"), nil, []byte("{5000001,5000002}"),
	}}
	rest := wiretest.Encode(bind)[wire.HeaderLen+2:]
	bind.Parameters[0], bind.Parameters[1], bind.Parameters[4] = []byte("77"), []byte{0, 0, 0, 42}, []byte("{77,5000002}")
	want := wiretest.Encode(bind)[wire.HeaderLen+2:]
	if got := r.s.presentParameters(rest); string(got) != string(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for cut := range len(rest) - 4 {
		if got := r.s.presentParameters(rest[:cut]); len(got) != cut {
			t.Errorf("cut at %d: %q", cut, got)
		}
	}
}

func TestSenders(t *testing.T) {
	r := newProcessRig(t)
	for process, want := range map[uint32]uint32{42: 5000000, 77: 5000001, 99: 99} {
		n := &pgproto3.NotificationResponse{PID: process, Channel: "x", Payload: "y"}
		r.client = nil
		r.fromServer(answer(n))
		n.PID = want
		if string(r.client) != string(answer(n)) {
			t.Errorf("from %d: got %q", process, r.client)
		}
	}
}

// TestOwnEnd holds that a client that ends its own server is told so, and nobody else is.
func TestOwnEnd(t *testing.T) {
	for sql, want := range map[string]string{
		"select pg_terminate_backend(pg_backend_pid())": "E(57P01)",
		"insert into t values (1)":                      "E(57P01) Z(I)",
	} {
		r := newRig(t)
		r.hold = true
		r.query(sql)
		end := &pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01"}
		r.fromServer(answer(end))
		if got := r.told(); got != want || r.closed != strings.HasPrefix(sql, "select") {
			t.Errorf("%s: got %q, closed %v", sql, got, r.closed)
		}
	}
}
