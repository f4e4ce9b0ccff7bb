package app

import (
	"reflect"
	"strings"
)

// Changed lists the keys whose values differ.
func Changed(before, after Config) []string {
	var keys []string
	compareSection("", reflect.ValueOf(before), reflect.ValueOf(after), &keys)
	return keys
}

func compareSection(path string, before, after reflect.Value, keys *[]string) {
	for i := range before.NumField() {
		name := join(path, before.Type().Field(i).Tag.Get("key"))
		switch a, b := before.Field(i), after.Field(i); {
		case a.Kind() == reflect.Struct:
			compareSection(name, a, b, keys)
		case (a.Kind() == reflect.Map || a.Kind() == reflect.Slice) && a.Len() == 0 && b.Len() == 0:
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			*keys = append(*keys, name)
		}
	}
}

// apply copies the value of one key.
func apply(to, from *Config, key string) {
	target, source := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for name := range strings.SplitSeq(key, ".") {
		for i := range target.NumField() {
			if target.Type().Field(i).Tag.Get("key") == name {
				target, source = target.Field(i), source.Field(i)
				break
			}
		}
	}
	target.Set(source)
}
