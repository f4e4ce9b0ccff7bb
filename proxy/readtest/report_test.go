package readtest

import "testing"

// What is a step back, and which one may be: only a value that a standby alone has shown, that nobody was told of when the
// read began, and that the primary does not show.
func TestStepsBack(t *testing.T) {
	tests := []struct {
		name            string
		read            read
		backward, early int64
	}{
		{"as before", read{value: 7, seen: sight{anywhere: 7}}, 0, 0},
		{"not acknowledged, seen on a standby, read on the primary", read{value: 6, acked: 6, seen: sight{anywhere: 7}}, 0, 1},
		{"the same, and something older was seen on the primary", read{value: 6, acked: 6, seen: sight{anywhere: 7, primary: 6}}, 0, 1},
		{"acknowledged", read{value: 6, acked: 7, seen: sight{anywhere: 7}}, 1, 0},
		{"not acknowledged, but the value before it was", read{value: 5, acked: 6, seen: sight{anywhere: 7}}, 1, 0},
		{"not acknowledged, but seen on the primary", read{value: 6, acked: 6, seen: sight{anywhere: 7, primary: 7}}, 1, 0},
		{"not acknowledged, but read on a standby", read{value: 6, acked: 6, standby: true, seen: sight{anywhere: 7}}, 1, 0},
		{"not acknowledged, between what was seen on the primary and on a standby", read{value: 4, acked: 4, seen: sight{anywhere: 7, primary: 5}}, 1, 0},
	}
	for _, tt := range tests {
		tt.read.most = 7
		r := &run{Load: &Load{}}
		r.saw(tt.read)
		if r.report.Backward.Count != tt.backward || r.report.Early.Count != tt.early {
			t.Errorf("%s: got %d backward and %d early, want %d and %d", tt.name, r.report.Backward.Count, r.report.Early.Count, tt.backward, tt.early)
		}
	}
}
