package router

import "testing"

func TestFingerprint(t *testing.T) {
	print := func(sql string) uint64 { return Fingerprint([]byte(sql), Options{}) }
	same := []string{"select a from t where b = 'x' and c = 1", "SELECT a FROM t WHERE b='y' AND c=2.5", "select/**/a from t -- x\nwhere b = $$z$$ and c = 7"}
	for _, sql := range same {
		if print(sql) != print(same[0]) {
			t.Errorf("%q differs from %q", sql, same[0])
		}
	}
	seen := map[uint64]string{}
	for _, sql := range []string{same[0], "select a from t where b = 'x' or c = 1", "select ab from t", "select a b from t", `select "a" from t`, `select "A" from t`,
		"select a from t where b = 'x' and c = $1", "select a.b from t", "", "select f('a')", "select f('a', 1)"} {
		if other, twice := seen[print(sql)]; twice {
			t.Errorf("%q and %q have one fingerprint", sql, other)
		}
		seen[print(sql)] = sql
	}
	sql := []byte(same[0])
	if n := testing.AllocsPerRun(100, func() { Fingerprint(sql, Options{}) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}
