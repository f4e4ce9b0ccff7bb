package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/walgate/walgate/ha"
)

// Settings is the body of GET and PATCH /v1/config: the settings of the whole cluster, which live in its record. In a
// PATCH a field that is absent stays as it is, and a parameter that is null is removed.
type Settings struct {
	TTL           *string            `json:"ttl,omitempty"` // duration
	MaximumLag    *int64             `json:"maximum_lag,omitempty"`
	OnCrash       *string            `json:"on_crash,omitempty"`
	ColdStartWait *string            `json:"cold_start_wait,omitempty"` // duration
	Sync          *ha.SyncMode       `json:"sync,omitempty"`
	Parameters    map[string]*string `json:"parameters,omitempty"`
}

func settingsOf(record ha.Record) Settings {
	ttl, wait := record.Settings.TTL.String(), record.Settings.ColdStartWait.String()
	parameters := make(map[string]*string, len(record.Settings.Parameters))
	for name, value := range record.Settings.Parameters {
		parameters[name] = &value
	}
	return Settings{
		TTL: &ttl, MaximumLag: &record.Settings.MaximumLag, OnCrash: &record.Settings.OnCrash, ColdStartWait: &wait,
		Sync: &record.Sync.Mode, Parameters: parameters,
	}
}

func (s *Server) getSettings(w http.ResponseWriter, _ *http.Request) {
	record := s.deps.Snapshots.Load().Record
	if record == nil {
		writeProblem(w, http.StatusServiceUnavailable, Problem{Error: "the cluster has no record yet"})
		return
	}
	writeJSON(w, http.StatusOK, settingsOf(*record))
}

func (s *Server) patchSettings(w http.ResponseWriter, r *http.Request) {
	var patch Settings
	if err := readBody(w, r, &patch); err != nil {
		writeProblem(w, http.StatusBadRequest, Problem{Error: err.Error()})
		return
	}
	var after Settings
	err := s.change(r.Context(), func(record *ha.Record) (bool, error) {
		if err := s.apply(patch, record); err != nil {
			return false, err
		}
		after = settingsOf(*record)
		return true, nil
	})
	if err != nil {
		s.writeError(w, err)
		return
	}
	s.deps.Log.Info("settings of the cluster changed")
	writeJSON(w, http.StatusOK, after)
}

// apply puts the patch into the record, or refuses all of it.
func (s *Server) apply(patch Settings, record *ha.Record) error {
	settings := record.Settings
	bad := func(format string, args ...any) error { return refuse(http.StatusBadRequest, "", format, args...) }
	if patch.TTL != nil {
		ttl, err := time.ParseDuration(*patch.TTL)
		if err != nil || ttl < s.cfg.MinTTL {
			return bad("ttl: %q; allowed: a duration of at least %s (2*renew + rpc_timeout + stop_margin + 1%%)", *patch.TTL, s.cfg.MinTTL)
		}
		settings.TTL = ttl
	}
	if patch.MaximumLag != nil {
		if *patch.MaximumLag < 0 {
			return bad("maximum_lag: %d; allowed: 0 or more bytes", *patch.MaximumLag)
		}
		settings.MaximumLag = *patch.MaximumLag
	}
	if patch.OnCrash != nil {
		switch *patch.OnCrash {
		case "failover", "restart", "auto":
			settings.OnCrash = *patch.OnCrash
		default:
			return bad("on_crash: %q; allowed: failover, restart, auto", *patch.OnCrash)
		}
	}
	if patch.ColdStartWait != nil {
		wait, err := time.ParseDuration(*patch.ColdStartWait)
		if err != nil || wait <= 0 {
			return bad("cold_start_wait: %q; allowed: a duration", *patch.ColdStartWait)
		}
		settings.ColdStartWait = wait
	}
	if patch.Sync != nil {
		switch *patch.Sync {
		case ha.SyncOff, ha.SyncQuorum, ha.SyncStrict:
			// Voters stay: agents bring them and synchronous_standby_names to the new rule in the safe order.
			record.Sync.Mode = *patch.Sync
			record.Sync.Quorum = max(record.Sync.Quorum, 1)
		default:
			return bad("sync: %q; allowed: off, quorum, strict", *patch.Sync)
		}
	}
	if patch.Parameters != nil {
		parameters := maps.Clone(settings.Parameters)
		if parameters == nil {
			parameters = map[string]string{}
		}
		for name, value := range patch.Parameters {
			if value == nil {
				delete(parameters, name)
				continue
			}
			parameters[name] = *value
		}
		if err := s.cfg.CheckParameters(parameters); err != nil {
			return bad("parameters: %v", err)
		}
		settings.Parameters = parameters
	}
	record.Settings = settings
	return nil
}

// patroniConfig is Patroni's dynamic configuration, as far as there is an equal of it here.
func patroniConfig(record ha.Record) map[string]any {
	return map[string]any{
		"ttl": record.Settings.TTL.Seconds(), "maximum_lag_on_failover": record.Settings.MaximumLag,
		"synchronous_mode":        map[ha.SyncMode]any{ha.SyncQuorum: "quorum", ha.SyncStrict: "quorum"}[record.Sync.Mode],
		"synchronous_mode_strict": record.Sync.Mode == ha.SyncStrict, "synchronous_node_count": record.Sync.Quorum,
		"pause":      record.Paused,
		"postgresql": map[string]any{"parameters": record.Settings.Parameters},
	}
}

// fromPatroni translates a PATCH /config. Keys without an equal here are refused rather than forgotten.
func fromPatroni(body map[string]any) (patch Settings, pause *bool, err error) {
	for key, value := range body {
		switch key {
		case "ttl":
			seconds, ok := value.(float64)
			if !ok {
				return patch, nil, fmt.Errorf("ttl: a number of seconds is expected")
			}
			text := time.Duration(seconds * float64(time.Second)).String()
			patch.TTL = &text
		case "maximum_lag_on_failover":
			lag, ok := value.(float64)
			if !ok {
				return patch, nil, fmt.Errorf("maximum_lag_on_failover: a number is expected")
			}
			n := int64(lag)
			patch.MaximumLag = &n
		case "pause":
			on, ok := value.(bool)
			if !ok && value != nil {
				return patch, nil, fmt.Errorf("pause: true or false is expected")
			}
			pause = &on
		case "postgresql":
			if patch.Parameters, err = parametersOf(value); err != nil {
				return patch, nil, err
			}
		default:
			return patch, nil, fmt.Errorf("%s: walgate has no such setting; allowed: ttl, maximum_lag_on_failover, pause, postgresql.parameters", key)
		}
	}
	return patch, pause, nil
}

func parametersOf(postgresql any) (map[string]*string, error) {
	section, ok := postgresql.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("postgresql: an object is expected")
	}
	parameters := map[string]*string{}
	for key, value := range section {
		table, ok := value.(map[string]any)
		if key != "parameters" || !ok {
			return nil, fmt.Errorf("postgresql.%s: walgate has no such setting; allowed: parameters", key)
		}
		for name, v := range table {
			parameters[name] = parameterText(v)
		}
	}
	return parameters, nil
}

func parameterText(value any) *string {
	var text string
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		text = v
	case bool:
		text = map[bool]string{true: "on", false: "off"}[v]
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	default:
		content, _ := json.Marshal(v) // decoded from JSON, so it encodes
		text = string(content)
	}
	return &text
}
