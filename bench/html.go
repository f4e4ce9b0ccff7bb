package bench

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"html/template"
	"slices"
	"strings"
)

//go:embed report.html.tmpl
var page string

// The plot, in pixels.
const (
	plotWidth  = 960.0
	plotHeight = 200.0
)

// html renders the report as one page without anything from elsewhere.
func (r Report) html() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{"seconds": seconds, "counts": counts, "plot": plot}).Parse(page)
	if err != nil {
		return nil, fmt.Errorf("parse template of the report: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, r); err != nil {
		return nil, fmt.Errorf("render report: %w", err)
	}
	return out.Bytes(), nil
}

// plot draws acknowledgements over time, and the steps of the change. It writes numbers and constants only.
func plot(run Run) template.HTML {
	var b strings.Builder
	n := max(len(run.WriterSeries), len(run.PgbenchSeries))
	fmt.Fprintf(&b, `<svg viewBox="-50 -20 %.0f %.0f" role="img">`, plotWidth+70, plotHeight+60)
	if n > 0 && run.StepMS > 0 {
		top := float64(max(1, slices.Max(append([]int{1}, slices.Concat(run.WriterSeries, run.PgbenchSeries)...))))
		curve(&b, "writer", run.WriterSeries, n, top)
		curve(&b, "pgbench", run.PgbenchSeries, n, top)
		fmt.Fprintf(&b, `<text x="-6" y="8" text-anchor="end">%.0f/s</text><text x="-6" y="%.0f" text-anchor="end">0</text>`,
			top*1000/run.StepMS, plotHeight)
		axis(&b, run, n)
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String())
}

func curve(b *strings.Builder, class string, series []int, n int, top float64) {
	if len(series) == 0 {
		return
	}
	fmt.Fprintf(b, `<polyline class="%s" points="`, class)
	for i, v := range series {
		fmt.Fprintf(b, "%.1f,%.1f ", (float64(i)+0.5)*plotWidth/float64(n), plotHeight*(1-float64(v)/top))
	}
	b.WriteString(`"/>`)
}

// axis draws seconds since the fault, and a line for each step.
func axis(b *strings.Builder, run Run, n int) {
	span := float64(n) * run.StepMS
	x := func(at float64) float64 { return (at - run.StartMS) / span * plotWidth }
	fmt.Fprintf(b, `<line class="axis" x1="0" y1="%.0f" x2="%.0f" y2="%.0f"/>`, plotHeight, plotWidth, plotHeight)
	step := 1000.0
	for span/step > 20 {
		step *= 5
	}
	for at := -float64(int(-run.StartMS/step)) * step; at <= run.StartMS+span; at += step {
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" text-anchor="middle">%.0f s</text>`, x(at), plotHeight+16, at/1000)
	}
	for i, mark := range []struct {
		name string
		at   float64
	}{{"fault", 0}, {"claim", run.ClaimMS}, {"open", run.OpenMS}, {"commit", run.FirstCommitMS}, {"resumed", run.ResumedMS}} {
		if mark.at < 0 || mark.at > run.StartMS+span {
			continue
		}
		fmt.Fprintf(b, `<line class="mark" x1="%.1f" y1="0" x2="%.1f" y2="%.0f"/><text class="mark" x="%.1f" y="%d">%s</text>`,
			x(mark.at), x(mark.at), plotHeight, x(mark.at)+3, 10+12*i, mark.name)
	}
}
