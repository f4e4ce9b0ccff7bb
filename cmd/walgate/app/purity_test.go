package app_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// purePackages decide; they have no goroutine, clock, input, output, logger or state of their own.
var purePackages = []string{"replication", "router", "ha", "proxy/wire", "proxy/session"}

// impureImports act, or tempt to.
var impureImports = []string{"os", "os/exec", "os/signal", "io/fs", "net", "net/http", "log", "log/slog", "math/rand",
	"math/rand/v2", "crypto/rand", "syscall", "runtime"}

// clockCalls are what package time offers besides arithmetic.
var clockCalls = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick"}

// sharing lists the files that share a value between goroutines and do nothing else with it: Feed, Gate, and the
// pointer through which a session reads the newest View; what sessions have in common, what they count, whose a server
// connection is, and that something was defined.
var sharing = []string{"replication/feed.go", "replication/gate.go", "proxy/session/api.go", "proxy/session/intern.go",
	"proxy/session/meter.go", "proxy/session/health.go", "proxy/session/borrower.go", "proxy/session/definitions.go"}

func TestPurePackages(t *testing.T) {
	variables := map[string]map[string]bool{}
	files := sourceFiles(t)
	for _, f := range files {
		if f.isTest || !slices.Contains(purePackages, f.pkg) {
			continue
		}
		if variables[f.pkg] == nil {
			variables[f.pkg] = map[string]bool{}
		}
		for _, name := range packageVariables(f.syntax) {
			variables[f.pkg][name] = true
		}
	}
	for _, pkg := range purePackages {
		if variables[pkg] == nil {
			t.Errorf("package %s is gone", pkg)
		}
	}
	for _, f := range files {
		if f.isTest || !slices.Contains(purePackages, f.pkg) {
			continue
		}
		for _, complaint := range impurities(f, variables[f.pkg]) {
			t.Error(complaint)
		}
	}
}

// impurities lists what a file of a pure package may not hold.
func impurities(f sourceFile, variables map[string]bool) (complaints []string) {
	complain := func(node ast.Node, format string, args ...any) {
		complaints = append(complaints, f.at(node)+": "+fmt.Sprintf(format, args...))
	}
	mayShare := slices.Contains(sharing, path.Join(f.pkg, f.name))
	_, others := f.imports()
	for _, name := range others {
		third := strings.Contains(name, ".") && !strings.HasPrefix(name, "github.com/jackc/pgx/v5/pgproto3")
		if third || slices.Contains(impureImports, name) || strings.HasPrefix(name, "sync") && !mayShare {
			complain(f.syntax, "a pure package imports %s", name)
		}
	}
	for _, spec := range packageValues(f.syntax) {
		for i, name := range spec.Names {
			if name.Name != "_" && !isTable(spec, i) {
				complain(spec, "package variable %s is neither an error nor a table", name.Name)
			}
		}
	}
	ast.Inspect(f.syntax, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.GoStmt:
			complain(n, "a pure package starts a goroutine")
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && pkg.Obj == nil && slices.Contains(clockCalls, n.Sel.Name) {
				complain(n, "a pure package reads the clock: time.%s", n.Sel.Name)
			}
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if name, ok := assigned(left); ok && n.Tok != token.DEFINE && variables[name] {
					complain(n, "package variable %s is assigned to", name)
				}
			}
		case *ast.IncDecStmt:
			if name, ok := assigned(n.X); ok && variables[name] {
				complain(n, "package variable %s is assigned to", name)
			}
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				complain(n, "init() acts behind the reader's back")
			}
		}
		return true
	})
	return complaints
}

func packageValues(file *ast.File) (specs []*ast.ValueSpec) {
	for _, decl := range file.Decls {
		if general, ok := decl.(*ast.GenDecl); ok && general.Tok == token.VAR {
			for _, spec := range general.Specs {
				specs = append(specs, spec.(*ast.ValueSpec))
			}
		}
	}
	return specs
}

func packageVariables(file *ast.File) (names []string) {
	for _, spec := range packageValues(file) {
		for _, name := range spec.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// isTable reports whether the i-th variable is an error, a literal, the result of a builder, or an embedded text.
func isTable(spec *ast.ValueSpec, i int) bool {
	if len(spec.Values) == 0 {
		if _, ok := spec.Type.(*ast.SelectorExpr); ok {
			return true // the zero value of another package's type; that nobody assigns to it is checked elsewhere
		}
		text, ok := spec.Type.(*ast.Ident)
		return ok && text.Name == "string" // go:embed
	}
	if i >= len(spec.Values) {
		return false
	}
	switch v := spec.Values[i].(type) {
	case *ast.CompositeLit, *ast.BasicLit:
		return true
	case *ast.UnaryExpr:
		_, literal := v.X.(*ast.CompositeLit)
		return literal
	case *ast.CallExpr:
		switch f := v.Fun.(type) {
		case *ast.Ident: // a builder of this package, such as buildByteClasses()
			return strings.HasPrefix(f.Name, "build")
		case *ast.SelectorExpr:
			return slices.Contains([]string{"New", "Errorf", "MustCompile", "NewReplacer"}, f.Sel.Name)
		case *ast.ArrayType:
			return true // a conversion, []byte("...")
		}
	}
	return false
}

// assigned returns the package-level name behind x, x.f, x[i]; ok is false for local variables.
func assigned(x ast.Expr) (name string, ok bool) {
	switch e := x.(type) {
	case *ast.Ident:
		if e.Obj == nil { // declared in another file
			return e.Name, true
		}
		_, value := e.Obj.Decl.(*ast.ValueSpec)
		return e.Name, value && e.Obj.Kind == ast.Var && e.Obj.Data == 0
	case *ast.IndexExpr:
		return assigned(e.X)
	case *ast.SelectorExpr:
		return assigned(e.X)
	}
	return "", false
}

// TestImpuritiesAreSeen shows that the guard bites.
func TestImpuritiesAreSeen(t *testing.T) {
	for name, source := range map[string]string{
		"goroutine":   "package p\nfunc f() { go f() }",
		"clock":       "package p\nimport \"time\"\nfunc f() time.Time { return time.Now() }",
		"logger":      "package p\nimport \"log/slog\"\nvar _ slog.Level",
		"lock":        "package p\nimport \"sync\"\ntype t struct{ mu sync.Mutex }",
		"state":       "package p\nvar count int",
		"assignment":  "package p\nvar table = map[int]int{}\nfunc f() { table[1] = 2 }",
		"init":        "package p\nfunc init() {}",
		"third party": "package p\nimport _ \"example.com/x\"",
	} {
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, "p.go", source, parser.ParseComments)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		names := map[string]bool{}
		for _, v := range packageVariables(syntax) {
			names[v] = true
		}
		if got := impurities(sourceFile{pkg: "p", name: "p.go", syntax: syntax, set: set}, names); len(got) == 0 {
			t.Errorf("%s is not seen", name)
		}
	}
	clean := "package p\nimport \"time\"\nvar table = map[int]int{1: 2}\nfunc f() time.Duration { table := table; table[2] = 3; return time.Second }"
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, "p.go", clean, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	if got := impurities(sourceFile{pkg: "p", name: "p.go", syntax: syntax, set: set}, map[string]bool{"table": true}); len(got) != 0 {
		t.Errorf("a pure file is refused: %v", got)
	}
}
