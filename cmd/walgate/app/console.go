package app

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/admin"
)

// consoleDeps adds to deps what the proxy's console asks of the process.
func (c *common) consoleDeps(deps proxy.Deps) proxy.Deps {
	deps.Settings = c.settings
	deps.Reload = func() error { return c.reload(c.file) }
	deps.Set = c.set
	if c.cfg.Node.Name == "" { // with a node, PostgreSQL would end too: that is its service's business
		deps.Stop = c.stop
	}
	return deps
}

// live are the keys that a reload applies; the console can SET the first of them.
var live = append([]string{"log.level", "postgres.parameters", "proxy.tls.", "proxy.server_tls."}, accessKeys...)

// accessKeys are those of the live keys that say who may log in how.
var accessKeys = []string{"proxy.auth.hba", "proxy.auth.hba_file", "proxy.auth.ident_file", "proxy.auth.user_file"}

// settings are the keys and values of the configuration, which names the files of secrets but holds none.
func (c *common) settings() []admin.Setting {
	var list []admin.Setting
	flatten("", reflect.ValueOf(*c.applied.Load()), reflect.ValueOf(Default()), &list)
	for i := range list {
		if list[i].Key == "log.level" {
			list[i].Value = strings.ToLower(c.level.Level().String())
		}
	}
	return list
}

func flatten(path string, now, before reflect.Value, list *[]admin.Setting) {
	for i := range now.NumField() {
		key := join(path, now.Type().Field(i).Tag.Get("key"))
		if now.Field(i).Kind() == reflect.Struct {
			flatten(key, now.Field(i), before.Field(i), list)
			continue
		}
		*list = append(*list, admin.Setting{
			Key: key, Value: plainValue(now.Field(i)), Default: plainValue(before.Field(i)),
			Changeable: slices.ContainsFunc(live, func(l string) bool { return strings.HasPrefix(key, l) }),
		})
	}
}

// plainValue is renderValue without the quotes that YAML needs.
func plainValue(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return v.String()
	}
	return renderValue(v, "")
}

// set changes one setting until the end of the process.
func (c *common) set(key, value string) error {
	if key != "log.level" && key != "log_level" {
		return fmt.Errorf("%q can't be set on the console; change the file and RELOAD, or restart", key)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, strings.ToLower(value)) {
		return fmt.Errorf("log.level is debug, info, warn or error, not %q", value)
	}
	c.level.Set(parseLevel(strings.ToLower(value)))
	c.log.Info("log level set on the console", "level", value)
	return nil
}
