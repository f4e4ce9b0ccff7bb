package session

import (
	"slices"
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// tellFirst makes the list of a login: what a server reports, overlaid with what the client asked for.
func (s *Session) tellFirst(parameters []Parameter) {
	list := parameters
	for i, p := range parameters {
		value, masked := s.endpoint(p.Name)
		if !masked {
			var asked bool
			if value, asked = s.startup.value(strings.ToLower(p.Name)); !asked {
				continue
			}
			value = reportedForm(p.Name, value, p.Value)
		}
		if value != p.Value {
			if &list[0] == &parameters[0] { // it belongs to others too
				list = slices.Clone(parameters)
			}
			list[i].Value = value
		}
	}
	s.tell(list)
}

// tell makes list what the client has been told.
func (s *Session) tell(list []Parameter) {
	s.told = s.cfg.shared.report(list)
	s.readOptions()
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
func (s *Session) endpoint(name string) (value string, masked bool) {
	if name != "in_hot_standby" {
		return "", false
	}
	if s.cfg.Target == router.TargetReplica {
		return "on", true
	}
	return "off", true
}

// reported returns what the client was told of a parameter.
func (s *Session) reported(name string) string {
	if s.told == nil {
		return ""
	}
	if i := toldAt(s.told.list, name); i >= 0 {
		return s.told.list[i].Value
	}
	return ""
}

func toldAt(list []Parameter, name string) int {
	for i := range list {
		if list[i].Name == name {
			return i
		}
	}
	return -1
}

// tellReports tells the client what differs from what it was told.
func (s *Session) tellReports(out *Actions) {
	if !s.stale || s.srv == nil {
		return
	}
	s.stale = false
	list, own := s.told.list, false
	for i := range s.srv.reported {
		p := &s.srv.reported[i]
		at := i
		if at >= len(list) || list[at].Name != p.Name {
			at = toldAt(list, p.Name)
		}
		value, ok := s.shownValue(p)
		if !ok || at >= 0 && list[at].Value == value {
			continue
		}
		if !own {
			list, own = slices.Clone(list), true
		}
		if at < 0 {
			list = append(list, Parameter{Name: p.Name, Value: value})
		} else {
			list[at].Value = value
		}
		out.put(Client, wire.AppendParameterStatus(out.own(Client), p.Name, value))
	}
	if own {
		s.tell(list)
	}
}

// shownValue is what the client should know of a parameter that the server reports; ok is false if that is not known
// yet.
func (s *Session) shownValue(p *Parameter) (value string, ok bool) {
	value = p.Value
	if masked, ok := s.endpoint(p.Name); ok {
		value = masked
	}
	pending := &s.settings.now
	if pending.want == pending.have {
		return value, true
	}
	name := strings.ToLower(p.Name)
	if !changed(pending.have, pending.want, name) {
		return value, true
	}
	s.stale = true // the server will say so when the settings are restored
	wanted, ok := pending.want.value(name)
	return reportedForm(p.Name, wanted, value), ok
}

// readOptions derives from the reported parameters how query strings are to be read.
func (s *Session) readOptions() {
	s.opts.BackslashStrings = s.reported("standard_conforming_strings") == "off"
	switch s.reported("client_encoding") {
	case "SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004":
		s.opts.UnsafeEncoding = true
	default:
		s.opts.UnsafeEncoding = false
	}
}

// wanted are the settings of the session.
func (s *Session) wanted() *settingSet {
	if s.work == nil {
		return s.want
	}
	return s.settings.now.want
}

// onPrimary reports whether a server is one that the gate watches.
func onPrimary(facts *ServerFacts) bool { return facts != nil && facts.Role == replication.RolePrimary }
