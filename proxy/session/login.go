package session

import (
	"strconv"
	"strings"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// readStartup reads the StartupMessage and asks for the login conversation.
func (s *Session) readStartup(packet []byte, out *Actions) {
	if s.phase != phaseStartup {
		s.end(errProtocol, out)
		return
	}
	_, code := wire.ParseStartup(packet)
	if code>>16 != 3 {
		version := strconv.Itoa(int(code>>16)) + "." + strconv.Itoa(int(code&0xffff))
		s.end(errVersion(version), out)
		return
	}
	req := &AuthRequest{Protocol: wire.Protocol30}
	if code >= wire.Protocol32 {
		req.Protocol = wire.Protocol32
	}
	var unknown []string
	var options string
	err := wire.StartupParameters(packet, func(name, value []byte) bool {
		switch n, v := string(name), string(value); {
		case n == "user":
			req.User = v
		case n == "database":
			req.Database = v
		case n == "replication":
			req.Replication = v
		case n == "options":
			options = v
		case strings.HasPrefix(n, "_pq_."):
			unknown = append(unknown, n)
		default:
			req.Parameters = setParameter(req.Parameters, n, v)
		}
		return true
	})
	if err != nil {
		s.end(errStartup, out)
		return
	}
	if refused := s.logIn(req, options); refused != nil {
		s.end(refused, out)
		return
	}
	if code > wire.Protocol32 || len(unknown) > 0 {
		out.put(Client, wire.AppendNegotiateProtocolVersion(out.own(Client), req.Protocol, unknown))
	}
	s.phase = phaseAuth
	out.Authenticate, out.control = req, true
}

// logIn completes and checks what was read; it returns why the login is refused.
func (s *Session) logIn(req *AuthRequest, options string) *wire.ErrorFields {
	if req.User == "" {
		return errNoUser
	}
	replication, ok := replicationMode(req.Replication)
	if !ok {
		return errReplication(req.Replication)
	}
	req.Replication = replication
	if req.Database == "" {
		req.Database = req.User
	}
	// What stands in options is overruled by parameters of their own, as PostgreSQL does it.
	fromOptions, bad := parseOptions(options)
	if bad != "" {
		return errOptions(bad)
	}
	for _, p := range req.Parameters {
		fromOptions = setParameter(fromOptions, p.Name, p.Value)
	}
	req.Parameters = fromOptions
	if len(req.Parameters) > s.cfg.MaxSettings {
		return &wire.ErrorFields{Severity: severityFatal, Code: "54000", Message: "too many startup parameters"}
	}
	var set *settingSet
	for _, p := range req.Parameters {
		name := strings.ToLower(p.Name)
		if e := checkOwn(severityFatal, name, p.Value); e != nil {
			return e
		}
		if name == ownToken { // says what the session must see, and is no setting
			t, _ := router.ParseCausalToken(p.Value)
			s.consistency.Raise(t, &noView) // judged with the first read
			continue
		}
		set = set.with(&s.cfg.shared, setting{name: name, value: p.Value})
	}
	s.startup, s.unproven = set, set.onServers() != nil
	s.settings.begin(set, set, &s.cfg.shared)
	s.who = s.cfg.shared.identity(req.User, req.Database)
	return nil
}

// replicationMode reads the parameter replication as PostgreSQL does: a boolean in any of its spellings, or database.
func replicationMode(text string) (mode string, ok bool) {
	word := strings.ToLower(strings.TrimSpace(text))
	prefixOf := func(full string, least int) bool { return len(word) >= least && strings.HasPrefix(full, word) }
	switch {
	case text == "database":
		return "database", true
	case word == "1", prefixOf("true", 1), prefixOf("yes", 1), word == "on":
		return "on", true
	case text == "", word == "0", prefixOf("false", 1), prefixOf("no", 1), prefixOf("off", 2):
		return "", true
	}
	return "", false
}

// setParameter sets a parameter in the list: names are case-insensitive and the last value counts.
func setParameter(list []Parameter, name, value string) []Parameter {
	for i := range list {
		if strings.EqualFold(list[i].Name, name) {
			list[i].Value = value
			return list
		}
	}
	return append(list, Parameter{Name: name, Value: value})
}

// parseOptions reads the startup parameter options as PostgreSQL's pg_split_opts and process_postgres_switches do: -c
// name=value, -cname=value, --name=value; a backslash takes the next character literally. bad is what can't be read.
func parseOptions(options string) (list []Parameter, bad string) {
	args := splitOptions(options)
	for i := 0; i < len(args); i++ {
		arg := args[i]
		var text string
		switch {
		case arg == "-c" || arg == "--":
			if i++; i == len(args) {
				return nil, arg
			}
			text = args[i]
		case strings.HasPrefix(arg, "-c"), strings.HasPrefix(arg, "--"):
			text = arg[2:]
		default:
			return nil, arg
		}
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, arg
		}
		list = setParameter(list, strings.ReplaceAll(name, "-", "_"), value)
	}
	return list, ""
}

func splitOptions(options string) (args []string) {
	var arg []byte
	in := false
	for i := 0; i < len(options); i++ {
		c := options[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f':
			if in {
				args, arg, in = append(args, string(arg)), arg[:0], false
			}
			continue
		case c == '\\' && i+1 < len(options):
			i++
			c = options[i]
		}
		arg, in = append(arg, c), true
	}
	if in {
		args = append(args, string(arg))
	}
	return args
}

// authResult ends the login.
func (s *Session) authResult(auth *AuthOutcome, out *Actions) {
	if s.phase != phaseAuth {
		return
	}
	out.put(Client, append(out.own(Client), auth.Before...))
	if !auth.OK {
		s.end(failureFields(auth.Failure, severityFatal, errAdminShutdown), out)
		return
	}
	s.mode, s.catalog, s.rule, s.id = auth.PoolMode, auth.Catalog, auth.Reads, auth.ProcessID
	s.phase = phaseReady
	s.tellFirst(auth.Parameters)
	b := wire.AppendAuthenticationOk(out.own(Client))
	for _, p := range s.told.list {
		b = wire.AppendParameterStatus(b, p.Name, p.Value)
	}
	b = wire.AppendBackendKeyData(b, auth.ProcessID, auth.Secret)
	out.put(Client, wire.AppendReadyForQuery(b, wire.StatusIdle))
}
