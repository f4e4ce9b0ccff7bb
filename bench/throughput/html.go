package throughput

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"html/template"
	"strings"
)

//go:embed report.html.tmpl
var page string

// html renders the report as one page without anything from elsewhere.
func (r Report) html() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"dots": dots, "one": func(v float64) string { return fmt.Sprintf("%.1f", v) }, "two": func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"three": func(v float64) string { return fmt.Sprintf("%.3f", v) }, "mega": func(v float64) string { return fmt.Sprintf("%.1f", v/(1<<20)) },
		"kilo": func(v float64) string { return fmt.Sprintf("%.2f", v/1024) }, "name": Line.name,
	}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parse template of the report: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r); err != nil {
		return nil, fmt.Errorf("render report: %w", err)
	}
	return out.Bytes(), nil
}

// dots draws each round's ratio on a scale of 0 to 3 with a line at 1. It writes numbers and constants only.
func dots(r Ratio) template.HTML {
	const width, top = 180.0, 3.0
	x := func(v float64) float64 { return width * min(v, top) / top }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="-4 0 %.0f 14" width="%.0f" height="14"><line class="axis" x1="%.1f" y1="0" x2="%.1f" y2="14"/>`, width+8, width+8, x(1), x(1))
	for _, v := range r.All {
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="7" r="2.5"/>`, x(v))
	}
	if len(r.All) > 0 {
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" y1="1" x2="%.1f" y2="13"/>`, x(r.Median), x(r.Median))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}
