package corpus

import (
	"slices"
	"testing"
)

func TestExpand(t *testing.T) {
	got := expand("a «b¦c» d «¦e»")
	if want := []string{"a b d ", "a c d ", "a b d e", "a c d e"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{"select 1\n", "#: nonsense\nselect 1\n", "#: read\n\"open\n"} {
		if got, err := parse(nil, "x", text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestStatements(t *testing.T) {
	all, err := Statements()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2000 {
		t.Errorf("only %d statements", len(all))
	}
}
