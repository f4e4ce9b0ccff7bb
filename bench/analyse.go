package bench

import (
	"slices"
	"time"
)

// outage is the longest time without a success that touches the fault or comes after it.
type outage struct {
	from, to time.Time // to is zero when nothing succeeded any more
}

// length is 0 when there was none, -1 when it did not end.
func (o outage) length() time.Duration {
	switch {
	case o.from.IsZero():
		return 0
	case o.to.IsZero():
		return -1
	}
	return o.to.Sub(o.from)
}

// silence is how long nothing may succeed at the end of the load before that counts as an outage that did not end.
const silence = 3 * time.Second

// longestGap returns the longest gap between successes that ends after since; one that lasts until the load ended never
// did.
func longestGap(successes []time.Time, since, ended time.Time) outage {
	sorted := slices.SortedFunc(slices.Values(successes), time.Time.Compare)
	var longest outage
	for i := 1; i < len(sorted); i++ {
		if !sorted[i].After(since) {
			continue
		}
		if gap := (outage{sorted[i-1], sorted[i]}); gap.length() > longest.length() {
			longest = gap
		}
	}
	if len(sorted) == 0 {
		return outage{from: since}
	}
	last := sorted[len(sorted)-1]
	if !last.After(since) || ended.Sub(last) > max(silence, longest.length()) {
		return outage{from: last}
	}
	return longest
}

// acks returns when attempts were acknowledged.
func acks(attempts []attempt) []time.Time {
	var at []time.Time
	for _, a := range attempts {
		if a.code == "" {
			at = append(at, a.done)
		}
	}
	return at
}

// verdict compares what was acknowledged with what is in the table.
type verdict struct {
	acknowledged int
	missing      []int64 // acknowledged, and not there
	duplicates   []int64 // there more than once
	contradicted []int64 // reported as not committed, and there
	inDoubt      int     // outcome reported as unknown
	inDoubtThere int     // of those, committed
}

func judge(attempts []attempt, rows map[int64]int) verdict {
	var v verdict
	for _, a := range attempts {
		count := rows[a.key]
		switch {
		case a.code == "":
			v.acknowledged++
			if count == 0 {
				v.missing = append(v.missing, a.key)
			}
		case notCommitted(a.code):
			if count > 0 {
				v.contradicted = append(v.contradicted, a.key)
			}
		default:
			v.inDoubt++
			if count > 0 {
				v.inDoubtThere++
			}
		}
		if count > 1 {
			v.duplicates = append(v.duplicates, a.key)
		}
	}
	return v
}

// lateAcks returns what one node acknowledged although it was sent at or after since: a second writer, if the node had
// been replaced by then.
func lateAcks(attempts []attempt, since time.Time) []attempt {
	var late []attempt
	for _, a := range attempts {
		if a.code == "" && !a.sent.Before(since) {
			late = append(late, a)
		}
	}
	return late
}

// longestStatement is the longest time that one acknowledged statement took, of those that ended after since.
func longestStatement(attempts []attempt, since time.Time) time.Duration {
	var longest time.Duration
	for _, a := range attempts {
		if a.code == "" && a.done.After(since) {
			longest = max(longest, a.done.Sub(a.sent))
		}
	}
	return longest
}

// errorsByCode counts what failed.
func errorsByCode(attempts []attempt) map[string]int {
	counts := map[string]int{}
	for _, a := range attempts {
		if a.code != "" {
			counts[a.code]++
		}
	}
	return counts
}

// histogram counts events per bucket of width from start on; what lies outside is left out.
func histogram(events []time.Time, start time.Time, width time.Duration, buckets int) []int {
	counts := make([]int, buckets)
	for _, e := range events {
		if d := e.Sub(start); d >= 0 && d < width*time.Duration(buckets) {
			counts[d/width]++
		}
	}
	return counts
}

// median returns the middle value, the lower one of two; 0 of none. Values below 0 (never) count as the largest.
func median(values []float64) float64 {
	sorted := byLength(values)
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)/2]
}

// maximum returns the largest value; one below 0 (never) is larger than all.
func maximum(values []float64) float64 {
	sorted := byLength(values)
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)-1]
}

func byLength(values []float64) []float64 {
	return slices.SortedFunc(slices.Values(values), func(a, b float64) int {
		switch {
		case a < 0 && b >= 0:
			return 1
		case b < 0 && a >= 0:
			return -1
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
}
