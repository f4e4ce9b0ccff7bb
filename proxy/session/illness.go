package session

import "github.com/walgate/walgate/replication"

// ails reports whether an error of a standby is a sign that it is ill: want of resources, trouble with its disk or data, an
// end of its processes. Errors that the statement may have asked for, and conflicts with recovery, are none.
func ails(code []byte) bool {
	if len(code) != 5 {
		return false
	}
	switch string(code) {
	case "53400": // a limit that is set for the statement
		return false
	case "57P01", "57P02", "57P03":
		return true
	}
	return string(code[:2]) == "53" || string(code[:2]) == "58" || string(code[:2]) == "XX"
}

// noteIllness counts a failure of the standby that has the turn.
func (s *Session) noteIllness(now replication.Instant) {
	if onPrimary(s.srv) || s.ill || s.srv.Meter == nil {
		return
	}
	s.ill = true
	s.srv.Meter.Health.Failed(now)
}

// noteHealth counts a turn that was answered without one.
func (s *Session) noteHealth(now replication.Instant) {
	if !s.ill && s.srv.Meter != nil {
		s.srv.Meter.Health.Well(now)
	}
	s.ill = false
}
