package session

import (
	"strings"
	"testing"
)

func setOf(text string) *settingSet {
	s := &settingSet{}
	for pair := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(pair, "=")
		s.list = append(s.list, setting{name, value})
	}
	return s
}

// TestRestoreOrder holds that parameters are changed with the rights that the client had: those of the user that has logged
// in, if that is a superuser, else those of the role.
func TestRestoreOrder(t *testing.T) {
	const set = "SELECT pg_catalog.set_config("
	for _, c := range []struct {
		have, want string
		superuser  bool
		sql        string
	}{
		{"", "a=1", true, set + "'a','1',false)"},
		{"", "a=1 role=r", true, set + "'a','1',false),pg_catalog.set_config('role','r',false)"},
		{"", "a=1 role=r", false, set + "'role','r',false),pg_catalog.set_config('a','1',false)"},
		{"role=r", "a=1 role=r", true, "RESET ROLE;" + set + "'a','1',false),pg_catalog.set_config('role','r',false)"},
		{"role=r", "a=1 role=r", false, set + "'a','1',false)"},
		{"a=1 role=r", "role=r", true, "RESET ROLE;RESET \"a\";" + set + "'role','r',false)"},
		{"a=1 role=r", "", false, "RESET \"a\";RESET ROLE;"},
		{"a=1 role=r", "a=1", true, "RESET ROLE;"},
		{"session_authorization=u", "a=1 session_authorization=u", true, "RESET SESSION AUTHORIZATION;" + set +
			"'a','1',false),pg_catalog.set_config('session_authorization','u',false)"},
		{"role=r session_authorization=u", "role=r session_authorization=v", true, "RESET SESSION AUTHORIZATION;RESET ROLE;" +
			set + "'session_authorization','v',false),pg_catalog.set_config('role','r',false)"},
		{"role=r session_authorization=u", "role=q session_authorization=u", true, "RESET ROLE;" + set + "'role','q',false)"},
	} {
		if got := string(appendRestore(nil, setOf(c.have), setOf(c.want), c.superuser)); got != c.sql {
			t.Errorf("from %q to %q, superuser %v:\n got  %s\n want %s", c.have, c.want, c.superuser, got, c.sql)
		}
	}
}
