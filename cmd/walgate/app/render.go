package app

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lineWidth is where comments of the rendered example wrap.
const lineWidth = 100

// RenderExample writes the configuration as YAML, each key with its meaning and allowed values. Keys that are empty by
// default and have an example in their tag show the example.
func RenderExample(c Config) string {
	var out strings.Builder
	out.WriteString("# walgate: every key, with its default. Each can be set by an environment variable as well:\n" +
		"# proxy.listen is WALGATE_PROXY_LISTEN. 'walgate check FILE' validates a file without starting anything.\n")
	renderSection(&out, reflect.ValueOf(c), "")
	return out.String()
}

func renderSection(out *strings.Builder, section reflect.Value, indent string) {
	for i := range section.NumField() {
		tag, value := section.Type().Field(i).Tag, section.Field(i)
		if indent == "" {
			out.WriteString("\n")
		}
		comment := tag.Get("doc")
		if allowed := tag.Get("allowed"); allowed != "" {
			comment += " Allowed: " + allowed + "."
		}
		for _, line := range wrap(comment, lineWidth-len(indent)-2) {
			out.WriteString(indent + "# " + line + "\n")
		}
		if value.Kind() == reflect.Struct {
			out.WriteString(indent + tag.Get("key") + ":\n")
			renderSection(out, value, indent+"  ")
			continue
		}
		fmt.Fprintf(out, "%s%s: %s\n", indent, tag.Get("key"), renderValue(value, tag.Get("example")))
	}
}

// RenderChanged writes the keys that differ from Default, without comments.
func RenderChanged(c Config) string {
	var out strings.Builder
	renderChanged(&out, reflect.ValueOf(Default()), reflect.ValueOf(c), "")
	return out.String()
}

func renderChanged(out *strings.Builder, before, after reflect.Value, indent string) {
	for i := range before.NumField() {
		key, value := before.Type().Field(i).Tag.Get("key"), after.Field(i)
		if value.Kind() == reflect.Struct {
			var nested strings.Builder
			renderChanged(&nested, before.Field(i), value, indent+"  ")
			if nested.Len() > 0 {
				out.WriteString(indent + key + ":\n" + nested.String())
			}
			continue
		}
		if !reflect.DeepEqual(before.Field(i).Interface(), value.Interface()) {
			fmt.Fprintf(out, "%s%s: %s\n", indent, key, renderValue(value, ""))
		}
	}
}

func renderValue(value reflect.Value, example string) string {
	if value.IsZero() && example != "" {
		return example
	}
	switch v := value.Interface().(type) {
	case time.Duration:
		return durationText(v)
	case Bytes:
		return v.String()
	case string:
		if v == "" || v == "off" || strings.ContainsAny(v, ":#{}[]*&!|>'\"%@` ") {
			return strconv.Quote(v)
		}
		return v
	}
	switch value.Kind() {
	case reflect.Map:
		pairs := make([]string, 0, value.Len())
		for _, key := range value.MapKeys() {
			pairs = append(pairs, strconv.Quote(key.String())+": "+strconv.Quote(value.MapIndex(key).String()))
		}
		slices.Sort(pairs)
		return "{" + strings.Join(pairs, ", ") + "}"
	case reflect.Slice:
		elements := make([]string, 0, value.Len())
		for i := range value.Len() {
			elements = append(elements, renderElement(value.Index(i)))
		}
		return "[" + strings.Join(elements, ", ") + "]"
	}
	return fmt.Sprint(value.Interface())
}

func renderElement(element reflect.Value) string {
	if element.Kind() != reflect.Struct {
		return strconv.Quote(element.String())
	}
	pairs := make([]string, 0, element.NumField())
	for i := range element.NumField() {
		key := element.Type().Field(i).Tag.Get("key")
		pairs = append(pairs, key+": "+renderValue(element.Field(i), ""))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// durationText writes 1m0s as 1m and 1h0m0s as 1h.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// RenderReference writes the table of every key for docs/configuration.md.
func RenderReference(c Config) string {
	var out strings.Builder
	referenceSection(&out, "", reflect.ValueOf(c))
	return out.String()
}

func referenceSection(out *strings.Builder, path string, section reflect.Value) {
	var nested []int
	if path != "" {
		out.WriteString("| key | default | meaning |\n|---|---|---|\n")
	}
	for i := range section.NumField() {
		tag, value := section.Type().Field(i).Tag, section.Field(i)
		if value.Kind() == reflect.Struct {
			nested = append(nested, i)
			continue
		}
		meaning := tag.Get("doc")
		if allowed := tag.Get("allowed"); allowed != "" {
			meaning += " Allowed: " + allowed + "."
		}
		fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", join(path, tag.Get("key")), renderValue(value, ""),
			strings.ReplaceAll(meaning, "|", `\|`))
	}
	for _, i := range nested {
		tag := section.Type().Field(i).Tag
		name := join(path, tag.Get("key"))
		fmt.Fprintf(out, "\n%s `%s`\n\n%s\n\n", strings.Repeat("#", 2+strings.Count(name, ".")), name, tag.Get("doc"))
		referenceSection(out, name, section.Field(i))
	}
}

// wrap breaks text at spaces so that no line is wider than width, if its words allow it.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
