package app

import (
	"reflect"

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

// settings are the keys and values of the configuration, which names the files of secrets but holds none.
func (c *common) settings() []admin.Setting {
	var list []admin.Setting
	flatten("", reflect.ValueOf(*c.applied.Load()), reflect.ValueOf(Default()), &list)
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
			Changeable: isLive(key),
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
