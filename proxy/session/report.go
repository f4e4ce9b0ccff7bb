package session

import (
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// report is what the client has been told of its parameters (ParameterStatus).
type report struct {
	told    []Parameter
	shared  bool // told belongs to others too: copy before changing
	stale   bool // what the server reports may differ from what was told
	replica bool // the endpoint is one of replicas
}

// begin makes the list of a login: what a server reports, overlaid with what the client asked for.
func (r *report) begin(parameters []Parameter, startup *settingSet, target router.Target) {
	r.told, r.shared = parameters, true
	r.replica = target == router.TargetReplica
	for i := range parameters {
		p := &parameters[i]
		value, masked := r.endpoint(p.Name)
		if !masked {
			var asked bool
			if value, asked = startup.value(strings.ToLower(p.Name)); !asked {
				continue
			}
			value = reportedForm(p.Name, value, p.Value)
		}
		r.set(i, value)
	}
}

// reportedForm guesses how a server reports a value that a client asked for at login; a wrong guess is corrected with
// the first turn.
func reportedForm(name, value, standard string) string {
	switch {
	case strings.EqualFold(name, "client_encoding"):
		value = strings.ToUpper(strings.Trim(value, "'\""))
		if value == "UTF-8" || value == "UNICODE" {
			return "UTF8"
		}
		return value
	case strings.EqualFold(name, "DateStyle"):
		if strings.EqualFold(value, "iso") {
			return "ISO, MDY"
		}
		return value
	case strings.EqualFold(name, "application_name"), strings.EqualFold(name, "TimeZone"),
		strings.EqualFold(name, "IntervalStyle"), strings.EqualFold(name, "search_path"):
		return value
	default:
		return standard
	}
}

// endpoint answers for parameters that are facts of the endpoint and not of a server.
func (r *report) endpoint(name string) (value string, masked bool) {
	if name != "in_hot_standby" {
		return "", false
	}
	if r.replica {
		return "on", true
	}
	return "off", true
}

func (r *report) set(i int, value string) {
	if r.told[i].Value == value {
		return
	}
	if r.shared {
		r.told, r.shared = append([]Parameter(nil), r.told...), false
	}
	r.told[i].Value = value
}

func (r *report) value(name string) string {
	for i := range r.told {
		if r.told[i].Name == name {
			return r.told[i].Value
		}
	}
	return ""
}

func (r *report) appendAll(dst []byte) []byte {
	for i := range r.told {
		dst = wire.AppendParameterStatus(dst, r.told[i].Name, r.told[i].Value)
	}
	return dst
}

// appendChanges tells the client what differs from what it was told.
func (r *report) appendChanges(dst []byte, facts *ServerFacts, pending settingPair) []byte {
	r.stale = false
	for i := range facts.reported {
		p := &facts.reported[i]
		at := i
		if at >= len(r.told) || r.told[at].Name != p.Name {
			at = r.index(p.Name)
		}
		value := p.Value
		if masked, ok := r.endpoint(p.Name); ok {
			value = masked
		}
		if pending.want != pending.have && changedFold(pending.have, pending.want, p.Name) {
			r.stale = true // the server will say so when the settings are restored
			wanted, ok := pending.want.value(strings.ToLower(p.Name))
			if !ok {
				continue
			}
			value = reportedForm(p.Name, wanted, value)
		}
		if at >= 0 && r.told[at].Value == value {
			continue
		}
		if at < 0 {
			r.told, r.shared = append(r.told[:len(r.told):len(r.told)], Parameter{Name: p.Name, Value: value}), false
		} else {
			r.set(at, value)
		}
		dst = wire.AppendParameterStatus(dst, p.Name, value)
	}
	return dst
}

func (r *report) index(name string) int {
	for i := range r.told {
		if r.told[i].Name == name {
			return i
		}
	}
	return -1
}

func changedFold(have, want *settingSet, name string) bool {
	return changed(have, want, strings.ToLower(name))
}

// tellReports emits pending ParameterStatus messages.
func (s *Session) tellReports(out *Actions) {
	if s.report.stale && s.srv != nil {
		out.put(Client, s.report.appendChanges(out.own(Client), s.srv, s.settings.now))
		s.readOptions()
	}
}

// readOptions derives from the reported parameters how query strings are to be read.
func (s *Session) readOptions() {
	s.opts.BackslashStrings = s.report.value("standard_conforming_strings") == "off"
	switch s.report.value("client_encoding") {
	case "SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004":
		s.opts.UnsafeEncoding = true
	default:
		s.opts.UnsafeEncoding = false
	}
}

// target is where the session wants its statements to run.
func (s *Session) target() router.Target {
	if s.cfg.Target == router.TargetAuto || s.cfg.Target == router.TargetUnset {
		if value, ok := s.settings.now.want.value(ownTarget); ok {
			if t, ok := router.ParseTarget(value); ok {
				return t
			}
		}
		return router.TargetAuto
	}
	return s.cfg.Target
}

// level is the session's consistency level.
func (s *Session) level() router.Level {
	if value, ok := s.settings.now.want.value(ownConsistency); ok {
		if l, ok := router.ParseLevel(value); ok {
			return l
		}
	}
	if s.cfg.Level == router.LevelUnset {
		return router.LevelSession
	}
	return s.cfg.Level
}

// onPrimary reports whether a server is one that the gate watches.
func onPrimary(facts *ServerFacts) bool { return facts != nil && facts.Role == replication.RolePrimary }
