package wiretest

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgproto3/v2"
)

// Postgres answers one connection after login: simple and extended queries, transactions, settings, prepared
// statements, COPY. It is no database: SELECT returns its own text, "fail" fails, "dup N" returns N rows.
type Postgres struct {
	Standby  bool
	Settings map[string]string // what SET and set_config have set
	Prepared map[string]string // statements by name, with their text
	Log      []string          // every statement executed, in order
	Parsed   []string          // every text that Parse has prepared
	// NextNotice is sent before the next CommandComplete.
	NextNotice *pgproto3.NoticeResponse
	// ColumnType is the type of the one column that statements return; 0 is text.
	ColumnType uint32
	// Mute makes it read and execute, and answer nothing.
	Mute bool

	buf      []byte
	out      []byte
	status   byte
	skipping bool
	copying  bool
	extended bool // the copy was begun by Execute
	portals  map[string]string
	before   map[string]string // settings at the begin of the transaction
}

// NewPostgres makes a server that has just logged its client in.
func NewPostgres(standby bool) *Postgres {
	return &Postgres{Standby: standby, Settings: map[string]string{}, Prepared: map[string]string{}, status: 'I',
		portals: map[string]string{}}
}

// Feed takes bytes of the client and returns the answer.
func (s *Postgres) Feed(in []byte) []byte {
	s.buf = append(s.buf, in...)
	for len(s.buf) >= 5 {
		n := 1 + int(binary.BigEndian.Uint32(s.buf[1:]))
		if len(s.buf) < n {
			break
		}
		s.message(s.buf[0], append([]byte(nil), s.buf[5:n]...))
		s.buf = s.buf[n:]
	}
	out := s.out
	s.out = nil
	if s.Mute {
		return nil
	}
	return out
}

// Buffered is the number of bytes of an incomplete message.
func (s *Postgres) Buffered() int { return len(s.buf) }

func (s *Postgres) send(m pgproto3.BackendMessage) {
	out, err := m.Encode(s.out)
	s.must(err)
	s.out = out
}

func (s *Postgres) message(typ byte, body []byte) {
	if s.copying && strings.IndexByte("dcfSH", typ) < 0 {
		s.copying = false
		s.fail("08P01", "unexpected message type during COPY from stdin")
		if !s.extended {
			s.ready()
		}
		return
	}
	if s.skipping && typ != 'S' && typ != 'X' {
		return
	}
	switch typ {
	case 'Q':
		var m pgproto3.Query
		if m.Decode(body) != nil {
			s.fail("08P01", "bad query")
			s.ready()
			return
		}
		delete(s.Prepared, "")
		s.query(m.String)
	case 'P':
		s.parse(body)
	case 'B':
		s.bind(body)
	case 'D':
		s.describe(body)
	case 'E':
		var m pgproto3.Execute
		s.must(m.Decode(body))
		text, ok := s.portals[m.Portal]
		if !ok {
			s.failExtended("34000", "portal does not exist")
			return
		}
		s.extended = true
		if !s.execute(text, false) {
			s.skipping = true
		}
	case 'C':
		var m pgproto3.Close
		s.must(m.Decode(body))
		if m.ObjectType == 'S' {
			delete(s.Prepared, m.Name)
		}
		s.send(&pgproto3.CloseComplete{})
	case 'H':
	case 'S':
		if !s.copying {
			s.skipping = false
			s.ready()
		}
	case 'd':
	case 'c':
		if s.copying {
			s.copying = false
			s.send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 1")})
			if !s.extended {
				s.ready()
			}
		}
	case 'f':
		if s.copying {
			s.copying = false
			s.fail("57014", "COPY from stdin failed: "+strings.TrimRight(string(body), "\x00"))
			if s.extended {
				s.skipping = true
			} else {
				s.ready()
			}
		}
	}
}

func (s *Postgres) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("wiretest: the session wrote a malformed message: %v", err))
	}
}

func (s *Postgres) parse(body []byte) {
	var m pgproto3.Parse
	s.must(m.Decode(body))
	switch _, taken := s.Prepared[m.Name]; {
	case taken && m.Name != "":
		s.failExtended("42P05", fmt.Sprintf("prepared statement %q already exists", m.Name))
	case strings.HasPrefix(m.Query, "syntax"), strings.HasSuffix(m.Query, "refused"):
		s.failExtended("42601", "syntax error")
	case s.status == 'E' && !ends(m.Query) && strings.Trim(m.Query, "; ") != "":
		s.failExtended("25P02", "current transaction is aborted")
	default:
		s.Prepared[m.Name] = m.Query
		s.Parsed = append(s.Parsed, m.Query)
		s.send(&pgproto3.ParseComplete{})
	}
}

func (s *Postgres) bind(body []byte) {
	var m pgproto3.Bind
	s.must(m.Decode(body))
	text, ok := s.Prepared[m.PreparedStatement]
	if !ok {
		s.failExtended("26000", fmt.Sprintf("prepared statement %q does not exist", m.PreparedStatement))
		return
	}
	if s.status == 'E' && !ends(text) {
		s.failExtended("25P02", "current transaction is aborted")
		return
	}
	s.portals[m.DestinationPortal] = text
	s.send(&pgproto3.BindComplete{})
}

func (s *Postgres) describe(body []byte) {
	var m pgproto3.Describe
	s.must(m.Decode(body))
	text, ok := s.portals[m.Name]
	if m.ObjectType == 'S' {
		if text, ok = s.Prepared[m.Name]; ok {
			s.send(&pgproto3.ParameterDescription{})
		}
	}
	switch {
	case !ok:
		s.failExtended("26000", "does not exist")
	case strings.HasPrefix(text, "select"):
		s.rowDescription()
	default:
		s.send(&pgproto3.NoData{})
	}
}

func (s *Postgres) rowDescription() {
	typ := s.ColumnType
	if typ == 0 {
		typ = 25
	}
	s.send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x"), DataTypeOID: typ}}})
}

func (s *Postgres) failExtended(code, message string) {
	s.fail(code, message)
	s.skipping = true
}

func (s *Postgres) fail(code, message string) {
	s.send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: message})
	if s.status == 'T' {
		s.status = 'E'
	}
	if s.status == 'I' && s.before != nil {
		s.Settings, s.before = s.before, nil
	}
}

func (s *Postgres) ready() {
	if s.status == 'I' {
		s.before = nil
		s.portals = map[string]string{}
	}
	s.send(&pgproto3.ReadyForQuery{TxStatus: s.status})
}

func (s *Postgres) query(text string) {
	s.extended = false
	if strings.Contains(text, "syntax") { // nothing of such a text runs
		s.fail("42601", "syntax error")
		s.ready()
		return
	}
	any := false
	for _, one := range strings.Split(text, ";") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		any = true
		if !s.execute(one, true) {
			break
		}
	}
	if !any {
		s.send(&pgproto3.EmptyQueryResponse{})
	}
	if !s.copying {
		s.ready()
	}
}

func ends(text string) bool {
	text = strings.ToLower(text)
	return strings.HasPrefix(text, "commit") || strings.HasPrefix(text, "rollback")
}

func (s *Postgres) save() {
	if s.before == nil {
		s.before = map[string]string{}
		for k, v := range s.Settings {
			s.before[k] = v
		}
	}
}

// execute runs one statement and reports whether it succeeded.
func (s *Postgres) execute(text string, simple bool) bool {
	lower := strings.ToLower(text)
	if s.status == 'E' && !ends(text) {
		s.fail("25P02", "current transaction is aborted, commands ignored until end of transaction block")
		return false
	}
	s.Log = append(s.Log, text)
	tag := strings.ToUpper(strings.Fields(lower + " x")[0])
	switch {
	case strings.HasSuffix(lower, "refused"):
		s.fail("42601", "syntax error")
		return false
	case strings.HasPrefix(lower, "begin"):
		s.save()
		s.status = 'T'
	case lower == "rollback to walgate_none": // there is none
		s.fail("3B001", "savepoint does not exist")
		return false
	case ends(text):
		if s.status == 'E' || tag == "ROLLBACK" {
			tag = "ROLLBACK"
			if s.before != nil {
				s.report(s.before)
			}
		}
		s.status, s.before = 'I', nil
	case strings.HasPrefix(lower, "set "), strings.HasPrefix(lower, "reset "):
		s.save()
		s.set(text)
	case strings.Contains(lower, "set_config("):
		s.save()
		s.setConfig(text)
		tag = "SELECT 1"
		s.rowDescription()
	case strings.Contains(lower, "fail"):
		s.fail("22012", "division by zero")
		return false
	case strings.HasPrefix(lower, "select"):
		if s.Standby && strings.Contains(lower, "nextval") {
			if simple {
				s.rowDescription()
			}
			s.fail("25006", "cannot execute nextval() in a read-only transaction")
			return false
		}
		if simple {
			s.rowDescription()
		}
		s.send(&pgproto3.DataRow{Values: [][]byte{[]byte(text)}})
		tag = "SELECT 1"
	case strings.HasPrefix(lower, "copy"):
		if strings.Contains(lower, "from stdin") {
			s.copying = true
			s.send(&pgproto3.CopyInResponse{})
			return true
		}
		s.send(&pgproto3.CopyOutResponse{})
		s.send(&pgproto3.CopyData{Data: []byte("row\n")})
		s.send(&pgproto3.CopyDone{})
	case s.Standby && tag != "UNLISTEN" && tag != "SHOW":
		s.fail("25006", "cannot execute "+tag+" in a read-only transaction")
		return false
	case tag == "DEALLOCATE":
		tag = "DEALLOCATE"
	case tag == "DISCARD":
		tag = "DISCARD ALL"
		s.Prepared = map[string]string{}
		s.report(map[string]string{})
	}
	if s.NextNotice != nil {
		s.send(s.NextNotice)
		s.NextNotice = nil
	}
	s.send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
	return true
}

func (s *Postgres) set(text string) {
	f := strings.Fields(strings.NewReplacer("=", " ", "'", "", `"`, "").Replace(text))
	next := map[string]string{}
	for k, v := range s.Settings {
		next[k] = v
	}
	if strings.EqualFold(f[0], "reset") {
		delete(next, f[1])
		if strings.EqualFold(f[1], "all") {
			next = map[string]string{}
		}
	} else {
		next[strings.ToLower(f[1])] = f[len(f)-1]
	}
	s.report(next)
}

// setConfig reads set_config('name','value',false) as often as it stands there.
func (s *Postgres) setConfig(text string) {
	next := map[string]string{}
	for k, v := range s.Settings {
		next[k] = v
	}
	parts := strings.Split(text, "set_config(")
	for _, p := range parts[1:] {
		f := strings.Split(p, "'")
		next[f[1]] = f[3]
	}
	s.report(next)
}

// report makes next the settings and tells of application_name.
func (s *Postgres) report(next map[string]string) {
	if s.Settings["application_name"] != next["application_name"] {
		s.send(&pgproto3.ParameterStatus{Name: "application_name", Value: next["application_name"]})
	}
	s.Settings = next
}

// SettingsText lists the settings, sorted.
func (s *Postgres) SettingsText() string {
	var list []string
	for k, v := range s.Settings {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return strings.Join(list, " ")
}
