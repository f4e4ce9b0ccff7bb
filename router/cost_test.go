package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/walgate/walgate/router"
	"github.com/walgate/walgate/router/corpus"
)

// BenchmarkORM classifies what drivers and ORMs send, with a catalog of a middling database: 100 ns and 1 ns a byte are the
// budget for each; cost/budget tells how it was kept.
func BenchmarkORM(b *testing.B) {
	statements, err := corpus.Statements()
	if err != nil {
		b.Fatal(err)
	}
	var facts router.Facts
	for i := range 200 {
		facts.Impure = append(facts.Impure, fmt.Sprintf("table_%d_id_seq", i))
		facts.Stable = append(facts.Stable, fmt.Sprintf("helper_%d", i))
	}
	facts.Impure = append(facts.Impure, "sessions", "event_log", "active_users")
	facts.Volatile = []string{"touch", "refresh_totals"}
	opts := router.Options{Catalog: router.NewCatalog(facts)}
	number := 0
	for _, s := range statements {
		if !strings.HasPrefix(s.Place, "orm.sql") || s.Want != corpus.Read {
			continue
		}
		text := []byte(s.Text)
		b.Run(fmt.Sprintf("%d/%dB", number, len(text)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				router.Classify(text, opts)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(100+len(text)), "cost/budget")
		})
		number++
	}
}
