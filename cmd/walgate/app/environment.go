package app

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
)

const environmentPrefix = "WALGATE_"

// notConfiguration are environment variables of the same prefix with another meaning.
var notConfiguration = map[string]bool{
	"WALGATE_API": true, "WALGATE_CONFIG": true, "WALGATE_TOKEN_FILE": true,
	"WALGATE_REQUIRE_POSTGRES": true, "WALGATE_REQUIRE_CLIENTS": true,
}

// applyEnvironment overrides keys with variables: proxy.listen is WALGATE_PROXY_LISTEN. Lists are separated by commas,
// tables are name=value pairs separated by commas. A variable with our prefix that names no key is an error, as an
// unknown key is; only those of lists of sections (proxy.listeners, proxy.pools) cannot be set so.
func applyEnvironment(c *Config, environ []string) error {
	fields := map[string]field{}
	for _, f := range leaves("", reflect.ValueOf(c).Elem()) {
		fields[f.variable()] = f
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, assignment := range environ {
		name, value, _ := strings.Cut(assignment, "=")
		if !strings.HasPrefix(name, environmentPrefix) || notConfiguration[name] || kubernetesService(name) {
			continue
		}
		f, ok := fields[name]
		if !ok {
			return fmt.Errorf("environment: %s names no key%s", name, nearestHint(name, names))
		}
		if err := f.set(value); err != nil {
			return fmt.Errorf("environment: %s: %w", name, err)
		}
	}
	return nil
}

// kubernetesService recognises the variables that Kubernetes sets in every pod for a service whose name begins with
// walgate (WALGATE_PORT_6432_TCP_ADDR, WALGATE_REPLICA_SERVICE_HOST ...).
func kubernetesService(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") && name != "WALGATE_POSTGRES_PORT" || strings.Contains(name, "_TCP") ||
		strings.Contains(name, "_UDP")
}

// field is one key with a value that is not a section.
type field struct {
	path  string
	value reflect.Value
	tag   reflect.StructTag
}

func (f field) variable() string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(f.path, ".", "_"))
}

func (f field) set(text string) error {
	switch f.value.Kind() {
	case reflect.Map:
		table := map[string]string{}
		for _, pair := range splitList(text) {
			name, value, ok := strings.Cut(pair, "=")
			if !ok {
				return fmt.Errorf("%q: name=value is expected", pair)
			}
			table[name] = value
		}
		f.value.Set(reflect.ValueOf(table))
		return nil
	case reflect.Slice:
		f.value.Set(reflect.ValueOf(splitList(text)))
		return nil
	}
	return setScalar(f.value, text, f.tag.Get("allowed"))
}

func splitList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// leaves lists the keys of a section in the order of the struct; lists of sections are left out.
func leaves(path string, section reflect.Value) []field {
	var all []field
	for i := range section.NumField() {
		tag := section.Type().Field(i).Tag
		value, name := section.Field(i), join(path, tag.Get("key"))
		switch {
		case value.Kind() == reflect.Struct:
			all = append(all, leaves(name, value)...)
		case value.Kind() == reflect.Slice && value.Type().Elem().Kind() == reflect.Struct:
		default:
			all = append(all, field{path: name, value: value, tag: tag})
		}
	}
	return all
}
