package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgproto3/v2"
)

// TestEncodersAgainstOracle reads what is encoded here with another codec.
func TestEncodersAgainstOracle(t *testing.T) {
	types := []byte{0, 1, 0, 0, 0, 23}
	fields := ErrorFields{Severity: "ERROR", Code: "08007", Message: "m", Detail: "d", Hint: "h", Routine: "r"}
	bind := append(AppendBindHeader(nil, "p", "s", 6), 0, 0, 0, 0, 0, 0)
	tests := []struct {
		name string
		got  []byte
		msg  interface{ Decode([]byte) error }
		want any
	}{
		{"Query", AppendQuery(nil, "select 1"), &pgproto3.Query{}, &pgproto3.Query{String: "select 1"}},
		{"Parse", AppendParse(nil, "n", "select $1", types), &pgproto3.Parse{},
			&pgproto3.Parse{Name: "n", Query: "select $1", ParameterOIDs: []uint32{23}}},
		{"Describe", AppendDescribe(nil, 'S', "n"), &pgproto3.Describe{}, &pgproto3.Describe{ObjectType: 'S', Name: "n"}},
		{"Close", AppendClose(nil, 'P', "n"), &pgproto3.Close{}, &pgproto3.Close{ObjectType: 'P', Name: "n"}},
		{"Bind", bind, &pgproto3.Bind{}, &pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s"}},
		{"Execute", AppendExecute(nil, "p", 5), &pgproto3.Execute{}, &pgproto3.Execute{Portal: "p", MaxRows: 5}},
		{"Sync", AppendEmpty(nil, 'S'), &pgproto3.Sync{}, &pgproto3.Sync{}},
		{"Error", AppendErrorResponse(nil, fields), &pgproto3.ErrorResponse{}, &pgproto3.ErrorResponse{Severity: "ERROR",
			SeverityUnlocalized: "ERROR", Code: "08007", Message: "m", Detail: "d", Hint: "h", Routine: "r"}},
		{"Notice", AppendNoticeResponse(nil, fields), &pgproto3.NoticeResponse{}, &pgproto3.NoticeResponse{Severity: "ERROR",
			SeverityUnlocalized: "ERROR", Code: "08007", Message: "m", Detail: "d", Hint: "h", Routine: "r"}},
		{"ParameterStatus", AppendParameterStatus(nil, "a", "b"), &pgproto3.ParameterStatus{}, &pgproto3.ParameterStatus{Name: "a", Value: "b"}},
		{"BackendKeyData", AppendBackendKeyData(nil, 7, []byte{0, 0, 0, 9}), &pgproto3.BackendKeyData{},
			&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: 9}},
		{"ReadyForQuery", AppendReadyForQuery(nil, 'T'), &pgproto3.ReadyForQuery{}, &pgproto3.ReadyForQuery{TxStatus: 'T'}},
		{"AuthenticationOk", AppendAuthenticationOk(nil), &pgproto3.AuthenticationOk{}, &pgproto3.AuthenticationOk{}},
		{"CommandComplete", AppendCommandComplete(nil, "SELECT 1"), &pgproto3.CommandComplete{}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var c Cutter
			p, n, err := c.Cut(test.got, false)
			if err != nil || n != len(test.got) || !p.Last {
				t.Fatalf("not one frame: %v %d of %d", err, n, len(test.got))
			}
			if err := test.msg.Decode(p.Bytes[HeaderLen:]); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, test.msg, cmp.FilterPath(func(path cmp.Path) bool {
				return path.Last().String() == ".UnknownFields"
			}, cmp.Ignore()), cmp.Transformer("empty", func(b [][]byte) int { return len(b) }),
				cmp.Transformer("none", func(b []int16) int { return len(b) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStartup(t *testing.T) {
	packet := AppendStartup(nil, Protocol30, "user", "u", "application_name", "")
	body, n, err := CutStartup(packet)
	if err != nil || n != len(packet) {
		t.Fatal(n, err)
	}
	var oracle pgproto3.StartupMessage
	if err := oracle.Decode(body); err != nil || oracle.Parameters["user"] != "u" {
		t.Fatal(err, oracle)
	}
	got := map[string]string{}
	if err := StartupParameters(body, func(name, value []byte) bool { got[string(name)] = string(value); return true }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"user": "u", "application_name": ""}, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range [][]byte{{0, 0, 0, 7, 0, 0, 0}, {0, 0, 0x27, 0x15, 0}, {0xff, 0xff, 0xff, 0xff, 0}} {
		var wrong *LengthError
		if _, _, err := CutStartup(bad); !errors.As(err, &wrong) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	for _, bad := range []string{"user\x00u\x00", "user\x00u", "user\x00u\x00\x00x"} {
		if err := StartupParameters(append([]byte{0, 3, 0, 0}, bad...), func(_, _ []byte) bool { return true }); !errors.Is(err, ErrStartup) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	cancel := AppendCancelRequest(nil, 5, []byte{1, 2, 3, 4})
	body, _, _ = CutStartup(cancel)
	if kind, _ := ParseStartup(body); kind != StartupCancel {
		t.Error("no cancel")
	}
	if id, secret, err := ParseCancel(body); id != 5 || !bytes.Equal(secret, []byte{1, 2, 3, 4}) || err != nil {
		t.Error(id, secret, err)
	}
}

func TestCutterRefusesLengths(t *testing.T) {
	for _, bad := range [][]byte{{'Q', 0, 0, 0, 3}, {'Q', 0xff, 0xff, 0xff, 0xff}, {'S', 0, 1, 0, 0}, {'Q', 0x40, 0, 0, 4}} {
		c := Cutter{Frontend: true}
		var wrong *LengthError
		if _, _, err := c.Cut(bad, true); !errors.As(err, &wrong) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// FuzzCutter: however a stream is read, the pieces are the stream, whole messages stay whole, and no chunk is lost.
func FuzzCutter(f *testing.F) {
	f.Add(append(AppendQuery(nil, "select 1"), AppendEmpty(nil, 'S')...), 7)
	f.Add([]byte{'Q', 0, 0, 0x80, 0, 1, 2, 3}, 5)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		if step < 1 || step > 1<<16 {
			return
		}
		var c Cutter
		var got []byte
		buf := []byte{}
		for in := stream; ; {
			n := min(step, len(in))
			buf, in = append(buf, in[:n]...), in[n:]
			for {
				full := len(buf) >= 64
				p, used, err := c.Cut(buf, full)
				if err != nil {
					return
				}
				if used == 0 {
					break
				}
				if !bytes.Equal(p.Bytes, buf[:used]) || p.First && len(p.Bytes) < HeaderLen {
					t.Fatal("a piece is not what was read")
				}
				if p.First && p.Last && int64(len(p.Bytes)) != HeaderLen+p.Length {
					t.Fatal("a whole message is not whole")
				}
				got = append(got, p.Bytes...)
				buf = buf[used:]
			}
			if n == 0 {
				break
			}
		}
		if !bytes.Equal(append(got, buf...), stream) {
			t.Fatal("bytes lost")
		}
	})
}

// FuzzDecoders: no body makes a decoder panic.
func FuzzDecoders(f *testing.F) {
	f.Add([]byte("a\x00b\x00\x00\x01\x00\x00\x00\x17"))
	f.Add([]byte("SERROR\x00C08007\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		_ = ParseTrouble(body)
		Fields(body, func(byte, []byte) {})
		if name, sql, types, err := ParseParse(body); err == nil {
			again := AppendParse(nil, string(name), string(sql), types)
			if !bytes.Equal(again[HeaderLen:], body) {
				t.Fatal("Parse does not survive")
			}
		}
		if portal, statement, rest, err := ParseBind(body); err == nil {
			again := append(AppendBindHeader(nil, string(portal), string(statement), int64(len(rest))), rest...)
			if !bytes.Equal(again[HeaderLen:], body) {
				t.Fatal("Bind does not survive")
			}
		}
		_, _, _ = ParseTarget(body)
		_, _, _ = ParseExecute(body)
		_, _ = ParseString(body)
		_, _, _ = ParseParameterStatus(body)
		_ = StartupParameters(body, func(_, _ []byte) bool { return true })
		_, _, _ = ParseCancel(body)
		_, _ = ParseStartup(body)
	})
}

func TestLedger(t *testing.T) {
	kinds := map[byte]Kind{'P': OwedParse, 'B': OwedBind, 'D': OwedDescribeStatement, 'd': OwedDescribePortal, 'E': OwedExecute,
		'C': OwedClose, 'S': OwedSync, 'Q': OwedQuery, 'F': OwedFunction, 'c': OwedCopyEnd}
	tests := []struct{ name, asked, answers, left string }{
		{"extended", "PBdES", "12TDDCZ", ""},
		{"describe statement", "PDS", "1tnZ", ""},
		{"suspended", "ES", "DsZ", ""},
		{"simple, two statements", "Q", "TDCCZ", ""},
		{"error skips to Sync", "PBESPS", "1xZ1Z", ""},
		{"error without Sync", "PBE", "1x", ""},
		{"function", "F", "VZ", ""},
		{"copy in, Sync too early", "ESc", "GC", ""},
		{"copy in, Sync behind", "EScS", "GCZ", ""},
		{"copy in simple", "Qc", "GCZ", ""},
		{"copy fails", "Qc", "GxZ", ""},
		{"stray CopyDone", "cQ", "CZ", ""},
		{"close", "CS", "3Z", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var l Ledger[int]
			for i := range len(test.asked) {
				l.Push(Owed[int]{Kind: kinds[test.asked[i]], Ref: i})
			}
			for i := range len(test.answers) {
				if test.answers[i] == 'x' {
					l.Fail(func(*Owed[int]) {})
					continue
				}
				fits, done := l.Accept(test.answers[i])
				if !fits {
					t.Fatalf("answer %d %q does not fit", i, test.answers[i])
				}
				if done {
					l.Pop()
				}
			}
			if l.Len() != 0 {
				t.Errorf("%d still owed", l.Len())
			}
		})
	}
}
