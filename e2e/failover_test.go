package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fault is one way in which a primary can end. It returns when the cluster has got what it needs to heal.
type fault struct {
	name string
	do   func(t *testing.T, d *Demo, primary string, epoch uint64)
}

var faults = []fault{
	{"switchover", func(t *testing.T, d *Demo, _ string, _ uint64) {
		d.must(t, verbLimit, "switchover", "--api", d.facts(t).Sidecar.API, "--yes")
	}},
	{"kill postmaster", func(t *testing.T, d *Demo, primary string, epoch uint64) {
		d.killPostmaster(t, primary)
		d.awaitOpen(t, epoch)
	}},
	{"kill node", func(t *testing.T, d *Demo, primary string, epoch uint64) {
		d.killNode(t, primary)
		d.awaitOpen(t, epoch)
		d.start(t, primary)
	}},
	{"freeze node", func(t *testing.T, d *Demo, primary string, epoch uint64) {
		thaw, at := d.freezeNode(t, primary), time.Now()
		d.awaitOpen(t, epoch)
		awaitSince(t, at, freeze)
		thaw()
	}},
	{"freeze PostgreSQL", func(t *testing.T, d *Demo, primary string, epoch uint64) {
		thaw := d.freezePostgres(t, primary)
		d.awaitOpen(t, epoch)
		thaw() // whoever of it is still there has to be harmless
	}},
}

// TestFailoversInARow breaks the primary again and again, in another way each time, under writers that remember each
// acknowledgement, and then looks for what they were told.
func TestFailoversInARow(t *testing.T) {
	t.Parallel()
	count := 20
	if text := ownVariables["WALGATE_E2E_FAILOVERS"]; text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("WALGATE_E2E_FAILOVERS: %v", err)
		}
		count = n
	}
	d := StartDemo(t, 3)
	d.awaitHealthy(t)
	idle := startIdlers(t, d, 5)
	ws := startWriters(t, d, 4)
	for i := range count {
		fault := faults[i%len(faults)]
		if !t.Run(fmt.Sprintf("%02d %s", i+1, strings.ReplaceAll(fault.name, " ", "-")), func(t *testing.T) {
			before := d.cluster(t)
			started := time.Now()
			fault.do(t, d, before.primary(), before.Epoch)
			after := d.awaitHealthy(t)
			pause, reason := int64(-1), ""
			if f := after.LastFailover; f != nil {
				pause, reason = f.PauseMS, f.Reason
			}
			t.Logf("%s: %s (epoch %d) to %s (epoch %d), %d ms without a primary, all well again after %s: %s", fault.name, before.primary(),
				before.Epoch, after.primary(), after.Epoch, pause, time.Since(started).Round(time.Millisecond), reason)
			if after.Epoch <= before.Epoch {
				t.Errorf("the epoch is %d, was %d", after.Epoch, before.Epoch)
			}
		}) {
			break // the next ones would only tell of this one
		}
	}
	ws.end()
	d.awaitHealthy(t)
	ws.verify(t, d)
	idle.verify(t)
}
