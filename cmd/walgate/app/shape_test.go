package app_test

import (
	"fmt"
	"go/ast"
	"regexp"
	"testing"
)

// screen is how many lines a function may have.
const screen = 70

// TestFunctionsFitAScreen measures the functions of the product. What is mostly one switch or one literal may be longer:
// it is read as a table.
func TestFunctionsFitAScreen(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if f.isTest {
			continue
		}
		for _, decl := range f.syntax.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			if n := f.lines(function); n > screen && 10*f.largestTable(function.Body) < 6*n {
				t.Errorf("%s: %s has %d lines, more than a screen of %d", f.at(function), function.Name.Name, n, screen)
			}
		}
	}
}

func (f sourceFile) lines(node ast.Node) int {
	return f.set.Position(node.End()).Line - f.set.Position(node.Pos()).Line + 1
}

// largestTable returns the number of lines of the longest switch, select or literal in the body.
func (f sourceFile) largestTable(body ast.Node) (longest int) {
	ast.Inspect(body, func(node ast.Node) bool {
		switch node.(type) {
		case *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt, *ast.CompositeLit, *ast.BasicLit:
			longest = max(longest, f.lines(node))
		}
		return true
	})
	return longest
}

// TestPackagesAreDocumented wants a doc.go, or for commands a main.go, with a package comment.
func TestPackagesAreDocumented(t *testing.T) {
	documented, seen := map[string]bool{}, map[string]bool{}
	for _, f := range sourceFiles(t) {
		if f.isTest {
			continue
		}
		seen[f.pkg] = true
		if f.syntax.Doc != nil {
			documented[f.pkg] = true
		}
	}
	for pkg := range seen {
		if !documented[pkg] {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

// TestNoSleepInTests: a test that sleeps is slow or flaky. Inside a synctest bubble sleeping is exact and free.
func TestNoSleepInTests(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if !f.isTest {
			continue
		}
		for _, where := range sleeps(f) {
			t.Errorf("%s: time.Sleep outside a synctest bubble; wait for the condition instead", where)
		}
	}
}

// bubbleComment marks helpers of tests that run in a bubble.
var bubbleComment = regexp.MustCompile(`(?i)\bin a (synctest )?bubble\b`)

// sleeps lists the calls of time.Sleep that are not within the argument of synctest.Test, nor within a function that
// says in its comment that it runs in a bubble.
func sleeps(f sourceFile) (found []string) {
	visit := func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.FuncDecl:
			return n.Doc == nil || !bubbleComment.MatchString(n.Doc.Text())
		case *ast.CallExpr:
			if called(n) == "synctest.Test" {
				return false
			}
			if called(n) == "time.Sleep" {
				found = append(found, f.at(n))
			}
		}
		return true
	}
	ast.Inspect(f.syntax, visit)
	return found
}

// called returns pkg.Func for a call of that form.
func called(call *ast.CallExpr) string {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	pkg, ok := selector.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return fmt.Sprint(pkg.Name, ".", selector.Sel.Name)
}
