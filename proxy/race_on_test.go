//go:build race

package proxy_test

// raceEnabled: memory is not measured under the race detector.
const raceEnabled = true
