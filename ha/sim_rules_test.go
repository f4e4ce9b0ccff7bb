package ha

import "testing"

// TestSimulatorNoticesMissingRules takes one safety rule away at a time: the simulator must find a violation. A guard is
// trusted after it has been seen to fail.
func TestSimulatorNoticesMissingRules(t *testing.T) {
	const within = 300
	for _, c := range []struct {
		name   string
		mode   SyncMode
		loss   bool
		remove func(*Rules)
	}{
		{"margin", "", false, func(r *Rules) { r.Margin = false }},
		{"guard", "", false, func(r *Rules) { r.Guard = false }},
		{"votes", SyncQuorum, true, func(r *Rules) { r.Votes = false }},
		{"voters before names: the arithmetic", SyncQuorum, false, func(r *Rules) { r.VotersBeforeNames = false }},
		{"voters before names: the loss", SyncQuorum, true, func(r *Rules) { r.VotersBeforeNames = false }},
		{"claim's position", SyncQuorum, true, func(r *Rules) { r.Position = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := AllRules()
			c.remove(&rules)
			for seed := uint64(1); seed <= within; seed++ {
				if failure, _ := simulate(simConfig{seed: seed, rules: rules, mode: c.mode, loss: c.loss}); failure != "" {
					t.Logf("seed %d: %s", seed, failure)
					return
				}
			}
			t.Errorf("no violation within %d seeds without the rule", within)
		})
	}
}
