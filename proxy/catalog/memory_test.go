package catalog

import "testing"

func TestMemory(t *testing.T) {
	e := Entry{set: &Set{}}
	if e.Refuses() || e.Refused(0) && e.Refuses() {
		t.Error("a new entry remembers something")
	}
	e.Refuse(1 << 60)
	if !e.Refuses() || !e.Refused(1<<60) || e.Refused(1<<60+1) {
		t.Error("what was refused is not what is remembered")
	}
	e.Refuse(1<<60 + 1) // takes its place
	if e.Refused(1<<60) || !e.Refused(1<<60+1) {
		t.Error("the newest of one place is not remembered")
	}
	e.refused.forget()
	if e.Refuses() || e.Refused(1<<60+1) {
		t.Error("it does not forget")
	}
	var unknown Entry // that databases beyond the limit share
	if unknown.Refuse(1 << 60); unknown.Refuses() {
		t.Error("an entry that is never looked at remembers")
	}
}
