package session

import "testing"

func TestEdits(t *testing.T) {
	e := editor{text: []byte("größe execute a, b!")}
	e.replace(16, 17, "canonical")
	e.replace(19, 20, "ü")
	if got := string(e.finish()); got != "größe execute canonical, ü!" {
		t.Fatalf("got %q", got)
	}
	// A second pass over what the first has made.
	second := editor{text: []byte("größe execute canonical, ü!")}
	second.replace(0, 7, "x")
	all := append(e.edits, second.edits...)
	if got := string(second.finish()); got != "x execute canonical, ü!" {
		t.Fatalf("got %q", got)
	}
	for _, c := range []struct{ sent, asked int }{
		{1, 1}, {2, 6}, {3, 7}, {10, 14}, {11, 15}, {12, 15}, {19, 15}, {20, 16}, {22, 18}, {23, 19}, {24, 20},
	} {
		if got := all.asked(c.sent); got != c.asked {
			t.Errorf("place %d: got %d, want %d", c.sent, got, c.asked)
		}
	}
	if unchanged := (&editor{text: []byte("x")}); unchanged.finish() != nil {
		t.Error("a text that is not changed is not nil")
	}
}
