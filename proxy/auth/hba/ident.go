package hba

import (
	"regexp"
	"strings"
)

// Maps say which names of the outside (an operating system's users, certificates) may log in as which roles.
type Maps struct{ list []mapping }

type mapping struct {
	name    string
	system  string
	pattern *regexp.Regexp // the system name began with a slash
	role    name
}

// ParseMaps reads maps: on each line the map's name, a system name, a role. See Parse.
func ParseMaps(file string, content []byte, open Open) (*Maps, error) {
	r := reader{open: open}
	if err := r.read(file, content, 0); err != nil {
		return nil, err
	}
	maps := &Maps{list: make([]mapping, 0, len(r.lines))}
	for i := range r.lines {
		m, err := parseMapping(&r.lines[i])
		if err != nil {
			return nil, err
		}
		maps.list = append(maps.list, m)
	}
	return maps, nil
}

func parseMapping(l *line) (mapping, error) {
	if len(l.fields) != 3 {
		return mapping{}, l.failf("three fields are expected: the map's name, a system name, a role")
	}
	for _, field := range l.fields {
		if len(field) != 1 {
			return mapping{}, l.failf("lists are not allowed here")
		}
	}
	m := mapping{name: first(l.fields[0]), system: first(l.fields[1])}
	if text, ok := strings.CutPrefix(m.system, "/"); ok && !l.fields[1][0].quoted {
		pattern, err := regexp.Compile(text)
		if err != nil {
			return mapping{}, l.failf("system name %q: %v", m.system, err)
		}
		m.pattern = pattern
	}
	role, err := l.parseNames(l.fields[2], "role", "all")
	if err != nil {
		return mapping{}, err
	}
	m.role = role[0]
	if m.pattern != nil && strings.Contains(m.role.text, `\1`) && m.pattern.NumSubexp() == 0 {
		return mapping{}, l.failf(`role %q takes \1, but the system name %q has no part in parentheses`, m.role.text, m.system)
	}
	return m, nil
}

// Allow reports whether the system name may log in as the role by the map of that name. Without a name they must be
// equal.
func (m *Maps) Allow(mapName, system, role string) bool {
	if mapName == "" {
		return system == role
	}
	if m == nil {
		return false
	}
	for i := range m.list {
		if one := &m.list[i]; one.name == mapName && one.allows(system, role) {
			return true
		}
	}
	return false
}

func (m *mapping) allows(system, role string) bool {
	if m.pattern == nil {
		return m.system == system && m.role.fits(role)
	}
	found := m.pattern.FindStringSubmatch(system)
	if found == nil {
		return false
	}
	if m.role.keyword || m.role.pattern != nil || len(found) < 2 {
		return m.role.fits(role)
	}
	return strings.ReplaceAll(m.role.text, `\1`, found[1]) == role
}
