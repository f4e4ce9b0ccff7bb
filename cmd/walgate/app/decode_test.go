package app

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var fileAndLine = regexp.MustCompile(`^f:\d+: |^f: |^environment: `)

// FuzzConfig: a configuration that is read can be written and read again, and each refusal of a file names it, and its
// line. The environment means the same as the file.
func FuzzConfig(f *testing.F) {
	f.Add(RenderExample(Default()), "WALGATE_PROXY_LISTEN=:1")
	f.Add("proxy:\n  listen: \":7\"\n  pools:\n    - {database: a, max: 3}\n", "WALGATE_LOG_LEVEL=debug")
	f.Add("a: &a b\nc: *a\n", "WALGATE_X=1")
	f.Add("proxy: {limits: {collected: 1GB}}\n---\nproxy: {}", "WALGATE_POSTGRES_PARAMETERS=a=b,c=d")
	f.Add("proxy:\n\tlisten: x", "WALGATE_PROXY_HOLD_TIMEOUT=-1s")
	f.Fuzz(func(t *testing.T, content, variable string) {
		c := Default()
		if err := decode("f", []byte(content), &c); err != nil {
			if !fileAndLine.MatchString(err.Error()) {
				t.Fatalf("%v names no file", err)
			}
			return
		}
		if err := applyEnvironment(&c, []string{variable}); err != nil && !fileAndLine.MatchString(err.Error()) {
			t.Fatalf("%v does not name the environment", err)
		}
		again := Default()
		text := RenderChanged(c)
		if err := decode("f", []byte(text), &again); err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, text)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatalf("-read +written and read again:\n%s\n%s", diff, text)
		}
	})
}
