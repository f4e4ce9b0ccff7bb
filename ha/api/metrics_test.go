package api_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestAlertsNameRealMetrics: those of the cluster that the dashboard and the alerts name are there.
func TestAlertsNameRealMetrics(t *testing.T) {
	_, body := call(t, "GET", newWorld().serve(t, config("node3")).URL+"/metrics", "")
	name := regexp.MustCompile(`\bwalgate_(?:cluster|member|store|last)_[a-z_]+`)
	found := 0
	for _, file := range []string{"../../deploy/prometheus/walgate.rules.yaml", "../../deploy/grafana/walgate-proxy.json"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(content), -1) {
			found++
			if !strings.Contains(body, "\n"+n+"{") && !strings.Contains(body, "\n"+n+" ") {
				t.Errorf("%s: there is no %s in\n%s", file, n, body)
			}
		}
	}
	if found < 4 {
		t.Errorf("%d names found", found)
	}
}
