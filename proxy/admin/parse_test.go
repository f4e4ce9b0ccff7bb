package admin

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for text, want := range map[string][]Command{
		"":                             nil,
		" ; ;; -- nothing\n/* no */ ":  nil,
		"show pools":                   {{Verb: Show, Name: "pools"}},
		"SHOW Pools;":                  {{Verb: Show, Name: "pools"}},
		"/* a */ sHoW\tstats -- b":     {{Verb: Show, Name: "stats"}},
		"pause":                        {{Verb: Pause}},
		"PAUSE MyDb":                   {{Verb: Pause, Name: "MyDb"}},
		`PAUSE "a ""b""; c"`:           {{Verb: Pause, Name: `a "b"; c`}},
		"resume my-db.x;reconnect":     {{Verb: Resume, Name: "my-db.x"}, {Verb: Reconnect}},
		"kill_client 17":               {{Verb: KillClient, ID: 17}},
		"set log.level = 'debug'":      {{Verb: Set, Name: "log.level", Value: "debug"}},
		"SET log.level TO warn":        {{Verb: Set, Name: "log.level", Value: "warn"}},
		"SET extra_float_digits = 3":   {{Verb: accepted, Name: "SET"}},
		"shutdown Wait_For_Clients":    {{Verb: Shutdown, Name: WaitForClients}},
		"BEGIN; SHOW VERSION; COMMIT;": {{Verb: accepted, Name: "BEGIN"}, {Verb: Show, Name: "version"}, {Verb: accepted, Name: "COMMIT"}},
		"select 1":                     {{Verb: one, Value: "1"}},
		"disable größe":                {{Verb: Disable, Name: "größe"}},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"show":                        "SHOW needs",
		"show pools clients":          `SHOW does not take "clients"`,
		"nonsense":                    `unknown command "nonsense"`,
		"select * from t":             "no SELECT",
		"pause a b":                   `PAUSE does not take "b"`,
		`pause ""`:                    "syntax error",
		"pause (":                     `at or near "("`,
		`pause "a`:                    "unterminated",
		"/* a":                        "unterminated comment",
		"disable":                     "a database is required",
		"kill_client x":               `"x" is not the id`,
		"kill_client -1":              "is not the id",
		"kill_client 99999999999":     "is not the id",
		"set a":                       "SET is written",
		"reload now":                  `RELOAD does not take "now"`,
		"shutdown soon":               `near "soon"`,
		strings.Repeat("pause ", 100): "too long",
		strings.Repeat("pause;", 200): "more than 100 commands",
		"'show' pools":                `unknown command "show"`,
	} {
		_, err := Parse(text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want one with %q", text, err, want)
		}
	}
}

// FuzzParse looks for texts that crash the parser or escape its bounds.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"show pools;", `pause "a""b"`, "set a = 'b'", "/*", "--", "kill_client 1; \x00", "shutdown wait_for_servers"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse(text)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || len(err.Error()) > 400 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if len(list) > maxCommands {
			t.Fatalf("%d commands", len(list))
		}
		for _, c := range list {
			if c.tag() == "" {
				t.Fatalf("%q: no tag for %+v", text, c)
			}
		}
	})
}
