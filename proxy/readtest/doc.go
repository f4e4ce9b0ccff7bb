// Package readtest writes and reads through many sessions at once and finds reads that break what their consistency
// level promises. It is for tests only: a Load runs against any endpoint, and tells as a Report what was seen.
package readtest
