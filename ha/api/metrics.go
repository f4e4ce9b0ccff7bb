package api

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector makes the metrics of the cluster from what the API would show at the moment of the scrape.
type collector struct{ s *Server }

func describeMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("walgate_"+name, help, labels, nil)
}

// The cluster as this process sees it.
var (
	metricEpoch     = describeMetric("cluster_epoch", "Epoch of the record.")
	metricOpen      = describeMetric("cluster_open", "1 when the primary takes writes.")
	metricPaused    = describeMetric("cluster_paused", "1 when the cluster is paused.")
	metricVoters    = describeMetric("cluster_voters", "Members that may vote on the next primary in a synchronous mode.")
	metricStoreAge  = describeMetric("store_read_age_seconds", "Time since the newest read of the store was sent.")
	metricStoreDown = describeMetric("store_unavailable", "1 when the newest read of the store failed.")
	metricPrimary   = describeMetric("member_primary", "1 for the primary of the record.", "member")
	metricHealthy   = describeMetric("member_healthy", "1 when the member runs as primary or streams.", "member", "state")
	metricTimeline  = describeMetric("member_timeline", "Timeline of the member.", "member")
	metricLagBytes  = describeMetric("member_replay_lag_bytes", "Replay lag of a standby; absent when not known.", "member")
	metricLag       = describeMetric("member_replay_lag_seconds", "Replay lag of a standby in time; absent when not known.", "member")
	metricPause     = describeMetric("last_failover_pause_seconds", "Time without a primary in the last change of primary.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		metricEpoch, metricOpen, metricPaused, metricVoters, metricStoreAge, metricStoreDown, metricPrimary, metricHealthy,
		metricTimeline, metricLagBytes, metricLag, metricPause,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	cluster := c.s.Describe()
	gauge(metricEpoch, float64(cluster.Epoch))
	gauge(metricOpen, number(cluster.Open))
	gauge(metricPaused, number(cluster.Paused))
	gauge(metricVoters, float64(len(cluster.Sync.Voters)))
	gauge(metricStoreDown, number(cluster.StoreError != ""))
	if sent := c.s.deps.Snapshots.Load().SentAt; sent != 0 {
		gauge(metricStoreAge, c.s.deps.Clock().Sub(sent).Seconds())
	}
	for _, m := range cluster.Members {
		name := string(m.Name)
		gauge(metricPrimary, number(name == cluster.PrimaryName()), name)
		gauge(metricHealthy, number(m.Healthy()), name, m.State)
		gauge(metricTimeline, float64(m.Timeline), name)
		if m.LagBytes != nil {
			gauge(metricLagBytes, float64(*m.LagBytes), name)
		}
		if m.LagMS != nil {
			gauge(metricLag, float64(*m.LagMS)/1000, name)
		}
	}
	if f := cluster.LastFailover; f != nil {
		gauge(metricPause, float64(f.PauseMS)/1000)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
