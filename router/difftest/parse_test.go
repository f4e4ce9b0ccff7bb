package difftest

import (
	"fmt"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/walgate/walgate/router"
)

// FuzzParse holds, of all that PostgreSQL's grammar accepts, that router sees the same statements, and that what it calls a
// read holds nothing that writes or locks.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	for _, s := range statements(f) {
		f.Add(s.Text)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if wrong := compareTrees(sql); wrong != "" {
			t.Fatalf("%q: %s", sql, wrong)
		}
	})
}

func TestCorpusTrees(t *testing.T) {
	read := 0
	for _, s := range texts(t) {
		if wrong := compareTrees(s); wrong != "" {
			t.Errorf("%q: %s", s, wrong)
		}
		if router.Classify([]byte(s), router.Options{}).Kind == router.Read {
			read++
		}
	}
	if read < 500 {
		t.Errorf("only %d reads", read)
	}
}

// TestTreesTell holds that the comparison sees what it is for.
func TestTreesTell(t *testing.T) {
	for _, sql := range []string{"insert into t values (1)", "select 1 for update", "select 1 into t", "with a as (delete from t returning 1) select 1",
		"select nextval('s')", "select my.f()", "copy t from stdin", "copy t to '/x'", "explain analyze select 1", "select * from pg_locks", "set a = 1",
		"explain delete from t", "begin", "select (select 1 from t for share)", "copy (select * from pg_stat_activity) to stdout", "merge into t using u on true when matched then delete"} {
		tree, err := pg.Parse(sql)
		if err != nil {
			t.Fatal(err)
		}
		if whyNoRead(tree) == "" {
			t.Errorf("%s passes for a read", sql)
		}
	}
}

func compareTrees(sql string) string {
	if strings.IndexByte(sql, 0) >= 0 {
		return ""
	}
	tree, err := pg.Parse(sql)
	if err != nil {
		return ""
	}
	v := router.Classify([]byte(sql), router.Options{})
	if int(v.Statements) != len(tree.Stmts) && !continues(sql) {
		return fmt.Sprintf("%d statements are %d to us", len(tree.Stmts), v.Statements)
	}
	from := 0
	for i, stmt := range tree.Stmts {
		span, next, ok := router.Split([]byte(sql), from, router.Options{})
		end := stmt.StmtLocation + stmt.StmtLen
		if stmt.StmtLen == 0 {
			end = int32(len(sql))
		}
		if !continues(sql) && (!ok || span.Start < stmt.StmtLocation || span.End > end) {
			return fmt.Sprintf("statement %d is [%d,%d), to us [%d,%d)", i, stmt.StmtLocation, end, span.Start, span.End)
		}
		from = next
	}
	if v.Kind == router.Read {
		return whyNoRead(tree)
	}
	return ""
}

// continues reports whether a string may go on behind a comment, which their copy of the scanner does not know.
func continues(sql string) bool {
	return strings.Contains(sql, "'") && strings.Contains(sql, "--")
}

// whyNoRead tells what in a tree no standby may do.
func whyNoRead(tree *pg.ParseResult) string {
	for _, raw := range tree.Stmts {
		if why := whyNot(raw.Stmt); why != "" {
			return why
		}
	}
	return walk(tree.ProtoReflect())
}

// whyNot judges a statement by its kind.
func whyNot(stmt *pg.Node) string {
	switch n := stmt.Node.(type) {
	case *pg.Node_SelectStmt, *pg.Node_VariableShowStmt, *pg.Node_FetchStmt:
	case *pg.Node_DeclareCursorStmt:
		return whyNot(n.DeclareCursorStmt.Query)
	case *pg.Node_ExplainStmt:
		if _, ok := n.ExplainStmt.Query.Node.(*pg.Node_SelectStmt); !ok {
			return "EXPLAIN of something else than a query"
		}
		for _, o := range n.ExplainStmt.Options {
			if e := o.GetDefElem(); e.Defname == "analyze" && e.Arg == nil {
				return "EXPLAIN ANALYZE"
			}
		}
	case *pg.Node_CopyStmt:
		if n.CopyStmt.IsFrom || n.CopyStmt.IsProgram || n.CopyStmt.Filename != "" {
			return "COPY elsewhere than to the client"
		}
		if q := n.CopyStmt.Query; q != nil {
			return whyNot(q)
		}
	default:
		return fmt.Sprintf("a %T", n)
	}
	return ""
}

// walk looks at every node.
func walk(m protoreflect.Message) (why string) {
	switch node := m.Interface().(type) {
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt, *pg.LockingClause, *pg.IntoClause:
		return fmt.Sprintf("a %T", node)
	case *pg.FuncCall:
		if why := calls(node); why != "" {
			return why
		}
	case *pg.RangeVar:
		if router.Classify([]byte("select * from "+quote(node.Relname)), router.Options{}).Kind != router.Read {
			return "relation " + node.Relname
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Kind() != protoreflect.MessageKind || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				if why == "" {
					why = walk(value.List().Get(i).Message())
				}
			}
		default:
			why = walk(value.Message())
		}
		return why == ""
	})
	return why
}

// calls judges a call as router judges its name alone.
func calls(call *pg.FuncCall) string {
	if call.Funcformat == pg.CoercionForm_COERCE_SQL_SYNTAX {
		return ""
	}
	var parts []string
	for _, part := range call.Funcname {
		parts = append(parts, quote(part.GetString_().Sval))
	}
	name := strings.Join(parts, ".")
	if name == `"cube"` || name == `"rollup"` {
		return "" // taken for what GROUP BY knows of that name
	}
	if name == `"current_setting"` || name == `"pg_catalog"."current_setting"` {
		return ""
	}
	if router.Classify([]byte("select "+name+"()"), router.Options{}).Kind != router.Read {
		return "a call of " + name
	}
	return ""
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
