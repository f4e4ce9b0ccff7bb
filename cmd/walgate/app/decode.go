package app

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ErrConfig is wrapped by every error about the content of a configuration: the process exits with ExitConfig.
var ErrConfig = errors.New("configuration")

// maxConfigBytes bounds the file; the largest sensible one has a few KB.
const maxConfigBytes = 1 << 20

// Load reads the file at path over Default, then the environment over the file, and checks the keys but not yet the
// sense of the values: Validate does that, because it differs between commands. An empty path means no file.
func Load(path string, environ []string) (Config, error) {
	c := Default()
	if path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return c, fmt.Errorf("%w: read: %w", ErrConfig, err)
		}
		if info.Size() > maxConfigBytes {
			return c, fmt.Errorf("%w: %s: larger than %d bytes", ErrConfig, path, maxConfigBytes)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("%w: read: %w", ErrConfig, err)
		}
		if err := decode(path, content, &c); err != nil {
			return c, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if err := applyEnvironment(&c, environ); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

// decode reads YAML into c strictly.
func decode(file string, content []byte, c *Config) error {
	parsed, err := parser.ParseBytes(content, 0)
	if err != nil {
		return syntaxError(file, err)
	}
	if len(parsed.Docs) > 1 && parsed.Docs[1].Body != nil {
		return fmt.Errorf("%s: more than one YAML document", file)
	}
	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return nil
	}
	d := decoder{file: file}
	return d.node("", parsed.Docs[0].Body, reflect.ValueOf(c).Elem(), "")
}

// syntaxError puts file and line before the parser's message.
func syntaxError(file string, err error) error {
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && syntax.Token != nil && syntax.Token.Position != nil {
		return fmt.Errorf("%s:%d: YAML syntax: %s", file, syntax.Token.Position.Line, syntax.Message)
	}
	return fmt.Errorf("%s: YAML syntax: %w", file, err)
}

type decoder struct{ file string }

func (d decoder) errorf(at ast.Node, format string, args ...any) error {
	line := 0
	if t := at.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return fmt.Errorf("%s:%d: %s", d.file, line, fmt.Sprintf(format, args...))
}

func (d decoder) node(path string, node ast.Node, into reflect.Value, allowed string) error {
	switch n := node.(type) {
	case *ast.NullNode:
		return nil // an empty section keeps its defaults
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return d.errorf(n, "%s: anchors, aliases and tags are not supported", pathOrFile(path))
	}
	switch into.Kind() {
	case reflect.Struct:
		return d.section(path, node, into)
	case reflect.Map:
		return d.table(path, node, into)
	case reflect.Slice:
		return d.list(path, node, into)
	}
	text, ok := scalarText(node)
	if !ok {
		return d.errorf(node, "%s: a single value is expected", path)
	}
	if err := setScalar(into, text, allowed); err != nil {
		return d.errorf(node, "%s: %v", path, err)
	}
	return nil
}

func (d decoder) pairs(path string, node ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, d.errorf(node, "%s: keys with values are expected", pathOrFile(path))
}

func (d decoder) section(path string, node ast.Node, into reflect.Value) error {
	pairs, err := d.pairs(path, node)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		name := pair.Key.GetToken().Value
		field, tag, ok := fieldByKey(into, name)
		if !ok {
			return d.errorf(pair.Key, "unknown key %q%s; %s", join(path, name), nearestHint(name, keysOf(into.Type())),
				"allowed here: "+strings.Join(keysOf(into.Type()), ", "))
		}
		if err := d.node(join(path, name), pair.Value, field, tag.Get("allowed")); err != nil {
			return err
		}
	}
	return nil
}

func (d decoder) table(path string, node ast.Node, into reflect.Value) error {
	pairs, err := d.pairs(path, node)
	if err != nil {
		return err
	}
	table := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		text, ok := scalarText(pair.Value)
		if !ok {
			return d.errorf(pair.Value, "%s: a single value is expected", join(path, pair.Key.GetToken().Value))
		}
		table[pair.Key.GetToken().Value] = text
	}
	into.Set(reflect.ValueOf(table))
	return nil
}

func (d decoder) list(path string, node ast.Node, into reflect.Value) error {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		return d.errorf(node, "%s: a list is expected", path)
	}
	list := reflect.MakeSlice(into.Type(), len(sequence.Values), len(sequence.Values))
	for i, element := range sequence.Values {
		if err := d.node(fmt.Sprintf("%s[%d]", path, i), element, list.Index(i), ""); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}

func scalarText(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// setScalar puts text into a field, as both the file and the environment do.
func setScalar(into reflect.Value, text, allowed string) error {
	switch into.Interface().(type) {
	case time.Duration:
		duration, err := time.ParseDuration(text)
		if err != nil || duration < 0 {
			return fmt.Errorf("%q is no duration; allowed: a number with a unit, such as 700ms, 5s, 2m", text)
		}
		into.SetInt(int64(duration))
		return nil
	case Bytes:
		amount, err := parseBytes(text)
		if err != nil {
			return err
		}
		into.SetInt(int64(amount))
		return nil
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no number%s", text, allowedHint(allowed))
		}
		into.SetInt(int64(n))
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q; allowed: true, false", text)
		}
		into.SetBool(b)
	default:
		panic("config field of a kind without a decoder: " + into.Type().String())
	}
	return nil
}

func allowedHint(allowed string) string {
	if allowed == "" {
		return ""
	}
	return "; allowed: " + allowed
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func pathOrFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func fieldByKey(section reflect.Value, name string) (reflect.Value, reflect.StructTag, bool) {
	for i := range section.NumField() {
		if tag := section.Type().Field(i).Tag; tag.Get("key") == name {
			return section.Field(i), tag, true
		}
	}
	return reflect.Value{}, "", false
}

func keysOf(section reflect.Type) []string {
	keys := make([]string, 0, section.NumField())
	for i := range section.NumField() {
		keys = append(keys, section.Field(i).Tag.Get("key"))
	}
	return keys
}

// nearestHint names the known word that is meant, if one is close enough to be meant.
func nearestHint(word string, known []string) string {
	best, bestDistance := "", len(word)/2+1
	for _, candidate := range known {
		if distance := editDistance(word, candidate); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
