//go:build !race

package proxy_test

// raceEnabled: memory is measured.
const raceEnabled = false
