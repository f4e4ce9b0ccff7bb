package proxy_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy"
)

// metricsOf runs a proxy until it has told of everything once, and returns the names of its metrics.
func metricsOf(t *testing.T) []string {
	t.Helper()
	registry := prometheus.NewRegistry()
	s := newSetupWith(t, func(c *proxy.Config) { c.PoolNodeMax = 10 }, registry)
	conn := s.connect(t)
	mustExec(t, conn, "select 1")
	_, _ = conn.Exec(testContext(t), "select 1/0")
	_, _ = conn.Exec(testContext(t), "set walgate.target = 'nowhere'")
	if _, err := pgx.Connect(testContext(t), s.url("app", "secret", "nowhere")); err == nil {
		t.Error("a database that is not there lets clients in")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
}

var (
	documented = regexp.MustCompile("(?m)^\\| (`[a-z_]+`(?:, `[a-z_]+`)*) \\|")
	quotedName = regexp.MustCompile("`([a-z_]+)`")
	metricName = regexp.MustCompile(`\bwalgate_[a-z_]+`)
)

// TestMetricsAreDocumented: docs/metrics.md, the dashboard and the alerts name the metrics that there are.
func TestMetricsAreDocumented(t *testing.T) {
	names := metricsOf(t)
	if *loops == 0 { // nothing makes them then
		names = append(names, "walgate_proxy_system_calls_total")
	}
	content, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, row := range documented.FindAllStringSubmatch(string(content), -1) {
		for _, name := range quotedName.FindAllStringSubmatch(row[1], -1) {
			full := "walgate_proxy_" + name[1]
			told[full] = true
			if !slices.Contains(names, full) {
				t.Errorf("%s is documented, and not there", full)
			}
		}
	}
	for _, name := range names {
		if !told[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, text := range append(alertsOf(t), panelsOf(t)...) {
		for _, name := range metricName.FindAllString(text, -1) {
			if !strings.HasPrefix(name, "walgate_proxy_") {
				continue // of the cluster, not of the proxy
			}
			base := strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
			if !slices.Contains(names, name) && !slices.Contains(names, base) {
				t.Errorf("%s: there is no %s", text, name)
			}
		}
	}
}

// alertsOf returns the expressions of the alerts.
func alertsOf(t *testing.T) (all []string) {
	t.Helper()
	content, err := os.ReadFile("../deploy/prometheus/walgate.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(content, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.For == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || !metricName.MatchString(r.Expr) {
				t.Errorf("alert %+v is not whole", r)
			}
			all = append(all, r.Expr)
		}
	}
	return all
}

// panelsOf returns the expressions of the dashboard.
func panelsOf(t *testing.T) (all []string) {
	t.Helper()
	content, err := os.ReadFile("../deploy/grafana/walgate-proxy.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	for _, p := range file.Panels {
		if p.ID == 0 || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %+v is not whole", p)
		}
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}
