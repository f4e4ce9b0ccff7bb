package session

import (
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/replication"
)

// TestRestoreByWhoSetIt holds that settings are made and taken back with the rights of who set them.
func TestRestoreByWhoSetIt(t *testing.T) {
	// sets returns the settings of a session that has run the statements.
	sets := func(t *testing.T, statements string) *settingSet {
		r := newRig(t)
		for sql := range strings.SplitSeq(statements, "; ") {
			if sql != "" {
				r.query(sql)
			}
		}
		return r.s.wanted()
	}
	tests := []struct{ name, have, want, sql string }{
		{"as oneself", "set a = 1", "set b = 2", `RESET "a";SELECT pg_catalog.set_config('b','2',false)`},
		{"before the role", "", "set a = 1; set role r", "SELECT pg_catalog.set_config('a','1',false),pg_catalog.set_config('role','r',false)"},
		{"behind the role", "", "set role r; set a = 1", "SELECT pg_catalog.set_config('role','r',false),pg_catalog.set_config('a','1',false)"},
		{"on both sides", "", "set role r; set a = 1; reset role; set b = 2; set role r",
			"SELECT pg_catalog.set_config('b','2',false),pg_catalog.set_config('role','r',false),pg_catalog.set_config('a','1',false)"},
		{"a setting of the login role under the same role", "set role r", "set a = 1; set role r",
			"RESET ROLE;SELECT pg_catalog.set_config('a','1',false),pg_catalog.set_config('role','r',false)"},
		{"of a role that is left", "set role r; set a = 1; reset role", "",
			`SELECT pg_catalog.set_config('role','r',false);RESET "a";RESET ROLE;`},
		{"another user", "set session authorization u; set role r; set a = 1", "set session authorization v",
			`RESET "a";RESET SESSION AUTHORIZATION;RESET ROLE;SELECT pg_catalog.set_config('session_authorization','v',false)`},
		{"only the role", "set role r", "set role s", "RESET ROLE;SELECT pg_catalog.set_config('role','s',false)"},
		{"SET ROLE NONE", "", "set role 'none'; set a = 1", "SELECT pg_catalog.set_config('a','1',false)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			have, want := sets(t, test.have), sets(t, test.want)
			got := string(appendRestore(nil, have, want, false))
			if got != test.sql {
				t.Errorf("\n got  %s\n want %s", got, test.sql)
			}
		})
	}
}

// TestSettingsOfOthersThatCanNotBeTakenBack: an innocent session gets another server.
func TestSettingsOfOthersThatCanNotBeTakenBack(t *testing.T) {
	r := newRig(t)
	r.query("set role boss")
	r.query("set a = 1")
	r.query("insert 0")
	other := newRig(t)
	other.idle, other.servers, other.next = r.idle, r.servers, 100
	other.hold = true
	other.query("insert 1")
	if other.srv == nil {
		t.Fatal("no server")
	}
	other.backlog = nil
	other.hold = false
	other.expect("on a fresh server", other.scripted(failure("42501"), ready('I')), "C(INSERT) Z(I)")
	other.expectTrail("need write", "attach primary", "discard", "need write", "attach primary", "release")
	if got := other.server(replication.RolePrimary).SettingsText(); got != "" {
		t.Errorf("settings %s", got)
	}
	// Its own settings are its own fault.
	r = newRig(t)
	r.query("insert 0")
	r.query("set a = 1")
	r.idle, r.hold = nil, true
	r.query("insert 1")
	r.backlog, r.hold = nil, false
	r.expect("refused", r.scripted(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501"}, ready('I')), "E(42501) Z(I)")
}
