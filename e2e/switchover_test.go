package e2e

import (
	"strings"
	"testing"
	"time"
)

// pauseLimit is far more than a switchover may take; what it takes is logged.
const pauseLimit = 10 * time.Second

// TestSwitchover moves the primary away and back under continuous writers: no client sees an error.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 3)
	first := d.awaitHealthy(t)
	api := d.facts(t).Sidecar.API
	idle := startIdlers(t, d, 5)
	ws := startWriters(t, d, 8)
	to := ""
	for _, m := range first.Members {
		if m.Name != first.primary() {
			to = m.Name
		}
	}
	for _, move := range []struct{ from, to string }{{first.primary(), to}, {to, first.primary()}} {
		started := time.Now()
		out := d.must(t, verbLimit, "switchover", "--api", api, "--yes", "--to", move.to)
		took := time.Since(started)
		// The verb has returned: the new primary takes writes and the old one streams.
		c := d.cluster(t)
		if err := c.healthy(d.N); err != nil || c.primary() != move.to {
			t.Errorf("after the verb returned: primary %s, %v", c.primary(), err)
		}
		pause := int64(-1)
		if c.LastFailover != nil {
			pause = c.LastFailover.PauseMS
		}
		t.Logf("%s to %s in %s, %d ms without a primary\n%s", move.from, move.to,
			took.Round(time.Millisecond), pause, strings.TrimSpace(out))
		d.awaitHealthy(t)
	}
	// To the primary itself, or to nobody: refused, and nothing happens.
	before := d.cluster(t)
	for _, target := range []string{first.primary(), "no_such_node"} {
		if out := command(t.Context(), verbLimit, "switchover", "--api", api, "--yes", "--to", target); out.code != 5 {
			t.Errorf("switchover to %s: %s; want exit code 5", target, out)
		}
	}
	ws.end()
	if after := d.cluster(t); after.Epoch != before.Epoch || after.Epoch != first.Epoch+2 {
		t.Errorf("epoch is %d, was %d before the refused verbs and %d at first", after.Epoch, before.Epoch, first.Epoch)
	}
	if n := ws.errors(); n > 0 {
		t.Errorf("%d errors reached clients:\n%s", n, ws.errorTexts())
	}
	if ws.pause() > pauseLimit {
		t.Errorf("a writer waited %s", ws.pause())
	}
	ws.verify(t, d)
	idle.verify(t)
}
