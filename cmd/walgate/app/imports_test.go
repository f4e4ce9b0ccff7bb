package app_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/walgate/walgate"

// allowed is the house: which packages of ours each package may import in its product code. Arrows point downward
// only. A package without a line of its own follows the line of the nearest folder above it that has one, and may
// import and be imported by that folder's package. Changing this table is a change of the design.
var allowed = map[string][]string{
	"replication":          {},
	"replication/boottime": {"replication"},
	"replication/monitor":  {"replication", "replication/boottime"},
	"router":               {"replication"},

	"ha":          {"replication"},
	"ha/store":    {"ha", "replication", "replication/boottime"},
	"ha/postgres": {"ha", "replication", "replication/boottime"},
	"ha/diagnose": {"ha", "ha/store", "ha/postgres", "replication", "replication/boottime"},
	"ha/agent":    {"ha", "ha/store", "ha/postgres", "ha/diagnose", "replication", "replication/boottime"},
	"ha/api":      {"ha", "ha/store", "ha/postgres", "ha/diagnose", "ha/agent", "replication", "replication/boottime"},

	"proxy/wire":      {},
	"proxy/secure":    {},
	"proxy/preamble":  {},
	"proxy/sockets":   {},
	"proxy/takeover":  {"proxy/sockets"},
	"proxy/session":   {"proxy/wire", "router", "replication"},
	"proxy/catalog":   {"router", "replication"},
	"proxy/auth":      {"proxy/wire", "replication"},
	"proxy/login":     {"proxy/auth", "proxy/session", "proxy/wire", "router", "replication"},
	"proxy/pool":      {"proxy/auth", "proxy/secure", "proxy/session", "proxy/wire", "router", "replication", "replication/boottime"},
	"proxy/netdriver": {"proxy/auth", "proxy/login", "proxy/pool", "proxy/preamble", "proxy/secure", "proxy/session", "proxy/wire", "router", "replication", "replication/boottime"},
	"proxy/loop":      {"proxy/auth", "proxy/login", "proxy/pool", "proxy/preamble", "proxy/session", "proxy/wire", "router", "replication", "replication/boottime"},
	"proxy/admin":     {"proxy/auth", "proxy/pool", "proxy/session", "proxy/wire", "router", "replication", "replication/boottime"},
	"proxy": {"proxy/admin", "proxy/auth", "proxy/catalog", "proxy/login", "proxy/loop", "proxy/netdriver", "proxy/pool", "proxy/secure", "proxy/session", "proxy/sockets", "proxy/wire", "router",
		"replication", "replication/boottime", "replication/monitor"},

	"bench":           {"replication"},
	"cmd/walgate":     {"cmd/walgate/app", "bench", "ha", "ha/api", "ha/diagnose", "ha/postgres/guard", "replication"},
	"cmd/walgate/app": {"ha", "proxy", "router", "replication", "bench"}, // and all below them: the only place that sees both
}

// sourceFile is one parsed file of the module.
type sourceFile struct {
	pkg    string // its folder, relative to the module
	name   string
	isTest bool
	syntax *ast.File
	set    *token.FileSet
}

func (f sourceFile) at(node ast.Node) string {
	return path.Join(f.pkg, f.name) + ":" + strconv.Itoa(f.set.Position(node.Pos()).Line)
}

// imports returns the import paths; those of the module without its name.
func (f sourceFile) imports() (ours, others []string) {
	for _, spec := range f.syntax.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		if rest, ok := strings.CutPrefix(name, module+"/"); ok {
			ours = append(ours, rest)
		} else {
			others = append(others, name)
		}
	}
	return ours, others
}

// sourceFiles parses every Go file of the module.
func sourceFiles(t *testing.T) (files []sourceFile) {
	t.Helper()
	root := moduleRoot(t)
	set := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		syntax, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, filepath.Dir(name))
		files = append(files, sourceFile{pkg: filepath.ToSlash(relative), name: entry.Name(),
			isTest: strings.HasSuffix(name, "_test.go"), syntax: syntax, set: set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files found below %s", len(files), root)
	}
	return files
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// line returns the nearest folder at or above pkg that has a line in the table.
func line(pkg string) (folder string, ok bool) {
	for folder = pkg; folder != "."; folder = path.Dir(folder) {
		if _, ok := allowed[folder]; ok {
			return folder, true
		}
	}
	return "", false
}

// mayImport says whether a package may import another one of the module.
func mayImport(from, to string) bool {
	folder, ok := line(from)
	if !ok {
		return false
	}
	target, ok := line(to)
	if !ok {
		return false
	}
	if folder == "cmd/walgate/app" {
		top, _, _ := strings.Cut(to, "/")
		return target == folder || slices.Contains(allowed[folder], top)
	}
	// Scripted peers for tests live beside the product but are never part of it.
	if path.Base(to) == "wiretest" {
		return path.Base(from) == "wiretest"
	}
	return target == folder || slices.Contains(allowed[folder], target) || slices.Contains(allowed[folder], to)
}

func TestImportsPointDownward(t *testing.T) {
	for _, f := range sourceFiles(t) {
		ours, others := f.imports()
		top, _, _ := strings.Cut(f.pkg, "/")
		for _, to := range ours {
			toTop, _, _ := strings.Cut(to, "/")
			switch {
			case top == "ha" && toTop == "proxy" || top == "proxy" && toTop == "ha":
				t.Errorf("%s/%s imports %s: ha and proxy meet in replication only", f.pkg, f.name, to)
			case !f.isTest && !mayImport(f.pkg, to):
				t.Errorf("%s/%s imports %s, which the table does not allow", f.pkg, f.name, to)
			}
		}
		for _, to := range others {
			if strings.HasPrefix(to, "github.com/jackc/pgproto3/") && !f.isTest && path.Base(f.pkg) != "wiretest" {
				t.Errorf("%s/%s imports %s, the archived codec that only tests may use", f.pkg, f.name, to)
			}
		}
	}
}

// TestTableRefuses breaks the rules on purpose: a guard is trusted after it has been seen to fail.
func TestTableRefuses(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"router", "replication", true},
		{"replication", "router", false},
		{"ha", "ha/store", false},
		{"ha/agent", "ha/store", true},
		{"ha/store", "ha/agent", false},
		{"ha/agent", "proxy", false},
		{"proxy", "ha", false},
		{"proxy/session", "proxy/pool", false},
		{"proxy/session", "replication/boottime", false},
		{"proxy/wire", "replication", false},
		{"ha/postgres", "ha/postgres/guard", true},
		{"ha/postgres/guard", "replication/boottime", true},
		{"cmd/walgate/app", "proxy/pool", true},
		{"cmd/walgate", "proxy", false},
		{"proxy/session", "proxy/wire/wiretest", false},
		{"unheard/of", "replication", false},
	} {
		if got := mayImport(c.from, c.to); got != c.want {
			t.Errorf("%s imports %s: got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
