package difftest

import (
	"testing"

	"github.com/walgate/walgate/router/corpus"
)

func statements(t testing.TB) []corpus.Statement {
	t.Helper()
	all, err := corpus.Statements()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
