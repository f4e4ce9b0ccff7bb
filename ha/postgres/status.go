package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// probeSQL asks everything in one statement. CASE keeps the functions of the other role from being called.
const probeSQL = `SELECT json_build_object(
 'system_id', (SELECT system_identifier::text FROM pg_control_system()),
 'version', current_setting('server_version_num')::int,
 'incarnation', (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,
 'in_recovery', r,
 'wal_file', CASE WHEN NOT r THEN pg_walfile_name(pg_current_wal_insert_lsn()) END,
 'flush', CASE WHEN NOT r THEN pg_current_wal_flush_lsn() END,
 'insert', CASE WHEN NOT r THEN pg_current_wal_insert_lsn() END,
 'received', CASE WHEN r THEN pg_last_wal_receive_lsn() END,
 'replayed', CASE WHEN r THEN pg_last_wal_replay_lsn() END,
 'paused', CASE WHEN r THEN pg_is_wal_replay_paused() ELSE false END,
 'checkpoint_timeline', (SELECT timeline_id FROM pg_control_checkpoint()),
 'recovery_timeline', (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
 'startup_wait', (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup' LIMIT 1),
 'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
 'sync_names', current_setting('synchronous_standby_names'),
 'conninfo', current_setting('primary_conninfo'),
 'delay', current_setting('recovery_min_apply_delay') <> '0',
 'max_connections', current_setting('max_connections')::int,
 'max_wal_senders', current_setting('max_wal_senders')::int,
 'max_worker_processes', current_setting('max_worker_processes')::int,
 'max_prepared_transactions', current_setting('max_prepared_transactions')::int,
 'max_locks_per_transaction', current_setting('max_locks_per_transaction')::int,
 'receiver', (SELECT row_to_json(w) FROM (SELECT pid, status, sender_host, sender_port, received_tli, flushed_lsn,
   slot_name FROM pg_stat_wal_receiver) w LIMIT 1),
 'replicas', (SELECT coalesce(json_agg(s), '[]') FROM (SELECT pid, application_name, host(client_addr) AS addr, state, sync_state,
   sync_priority, sent_lsn, flush_lsn, replay_lsn, extract(epoch FROM clock_timestamp() - reply_time) AS reply_age
   FROM pg_stat_replication) s),
 'slots', (SELECT coalesce(json_agg(s), '[]') FROM (SELECT slot_name, slot_type, active, restart_lsn, wal_status,
   (CASE WHEN r THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - restart_lsn)::bigint AS retained
   FROM pg_replication_slots) s)
) FROM (SELECT pg_is_in_recovery() AS r) AS recovery`

// answer is what probeSQL returns.
type answer struct {
	SystemID           string               `json:"system_id"`
	Version            int                  `json:"version"`
	Incarnation        int64                `json:"incarnation"`
	InRecovery         bool                 `json:"in_recovery"`
	WALFile            string               `json:"wal_file"`
	Flush              replication.LSN      `json:"flush"`
	Insert             replication.LSN      `json:"insert"`
	Received           replication.LSN      `json:"received"`
	Replayed           replication.LSN      `json:"replayed"`
	Paused             bool                 `json:"paused"`
	CheckpointTimeline replication.Timeline `json:"checkpoint_timeline"`
	RecoveryTimeline   replication.Timeline `json:"recovery_timeline"`
	StartupWait        string               `json:"startup_wait"`
	Connections        int                  `json:"connections"`
	SyncNames          string               `json:"sync_names"`
	Conninfo           string               `json:"conninfo"`
	Delay              bool                 `json:"delay"`
	Minimums
	Receiver *struct {
		PID     int                  `json:"pid"`
		Status  string               `json:"status"`
		Host    string               `json:"sender_host"`
		Port    int                  `json:"sender_port"`
		TLI     replication.Timeline `json:"received_tli"`
		Flushed replication.LSN      `json:"flushed_lsn"`
		Slot    string               `json:"slot_name"`
	} `json:"receiver"`
	Replicas []struct {
		PID      int                `json:"pid"`
		Name     replication.NodeID `json:"application_name"`
		Addr     string             `json:"addr"`
		State    string             `json:"state"`
		Sync     string             `json:"sync_state"`
		Priority int                `json:"sync_priority"`
		Sent     replication.LSN    `json:"sent_lsn"`
		Flush    replication.LSN    `json:"flush_lsn"`
		Replay   replication.LSN    `json:"replay_lsn"`
		ReplyAge *float64           `json:"reply_age"`
	} `json:"replicas"`
	Slots []struct {
		Name     string          `json:"slot_name"`
		Type     string          `json:"slot_type"`
		Active   bool            `json:"active"`
		Restart  replication.LSN `json:"restart_lsn"`
		Status   string          `json:"wal_status"`
		Retained int64           `json:"retained"`
	} `json:"slots"`
}

// Status asks PostgreSQL for its facts, on one connection that is kept, within Config.ProbeTimeout.
func (i *Instance) Status(ctx context.Context) (Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, i.cfg.ProbeTimeout)
	defer cancel()
	select {
	case i.probing <- struct{}{}:
		defer func() { <-i.probing }()
	case <-ctx.Done():
		return Facts{}, fmt.Errorf("probe: another one is under way: %w", context.Cause(ctx))
	}
	sent := boottime.Now()
	facts, err := i.ask(ctx)
	if err != nil {
		i.dropProbe()
		return Facts{}, fmt.Errorf("probe: %w", err)
	}
	facts.At = sent
	return facts, nil
}

// ask runs the probe; the caller holds the token.
func (i *Instance) ask(ctx context.Context) (Facts, error) {
	if i.probe == nil || i.probe.IsClosed() {
		conn, err := i.local(ctx)
		if err != nil {
			return Facts{}, err
		}
		i.probe = conn
	}
	text, err := one(ctx, i.probe, probeSQL)
	if hasCode(err, "55000") { // recovery ended while it ran
		text, err = one(ctx, i.probe, probeSQL)
	}
	if err != nil {
		return Facts{}, err
	}
	var a answer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return Facts{}, fmt.Errorf("read answer: %w", err)
	}
	return a.facts(i)
}

// dropProbe closes the kept connection; the caller holds the token.
func (i *Instance) dropProbe() {
	if i.probe == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond) // a farewell that need not arrive
	defer cancel()
	_ = i.probe.Close(ctx)
	i.probe = nil
}

// facts words the answer.
func (a answer) facts(i *Instance) (Facts, error) {
	f := Facts{
		SystemID: a.SystemID, Version: a.Version, Incarnation: a.Incarnation, InRecovery: a.InRecovery,
		Flush: a.Flush, Insert: a.Insert, Received: a.Received, Replayed: a.Replayed,
		ReplayPaused: a.Paused, ReplayDelay: a.Delay, SyncNames: a.SyncNames, Connections: a.Connections, Settings: a.Minimums,
	}
	if a.Conninfo != "" {
		f.Follows = i.followed()
	}
	if r := a.Receiver; r != nil {
		f.Receiver = &Receiver{
			PID: r.PID, Status: r.Status, SenderHost: r.Host, SenderPort: r.Port, Timeline: r.TLI, Flushed: r.Flushed, Slot: r.Slot,
		}
	}
	if a.InRecovery {
		f.Position = max(a.Received, a.Replayed)
		f.Timeline = max(a.CheckpointTimeline, a.RecoveryTimeline)
		if f.Receiver != nil && f.Receiver.Status == "streaming" {
			f.Timeline = max(f.Timeline, f.Receiver.Timeline)
		}
		f.ReplayComplete = !a.Paused && replayComplete(a.Received, a.Replayed, a.StartupWait)
	} else {
		tl, _, ok := parseSegment(a.WALFile, 1<<20)
		if !ok {
			return f, fmt.Errorf("read answer: WAL file %q", a.WALFile)
		}
		f.Position, f.Timeline = a.Flush, tl
		f.Checkpointed = a.CheckpointTimeline == tl
	}
	for _, r := range a.Replicas {
		age := time.Duration(-1)
		if r.ReplyAge != nil {
			age = time.Duration(*r.ReplyAge * float64(time.Second))
		}
		f.Replicas = append(f.Replicas, Replica{
			PID: r.PID, ApplicationName: r.Name, ClientAddr: r.Addr, State: r.State, SyncState: r.Sync, SyncPriority: r.Priority,
			Sent: r.Sent, Flush: r.Flush, Replay: r.Replay, ReplyAge: age,
		})
	}
	for _, s := range a.Slots {
		f.Slots = append(f.Slots, Slot{
			Name: s.Name, Ours: s.Type == "physical" && strings.HasPrefix(s.Name, slotPrefix), Physical: s.Type == "physical",
			Active: s.Active, Restart: s.Restart, WALStatus: s.Status, RetainedB: s.Retained,
		})
	}
	slices.SortFunc(f.Slots, func(a, b Slot) int { return strings.Compare(a.Name, b.Name) })
	return f, nil
}

// replayComplete judges by positive evidence: the startup process has replayed all that the receiver flushed, or says
// that it waits for more WAL (a trailing partial record keeps replay behind the receiver for ever). A position that does
// not move proves nothing.
func replayComplete(received, replayed replication.LSN, startupWait string) bool {
	if received.Known() && replayed >= received {
		return true
	}
	return startupWait == "RecoveryRetrieveRetryInterval" || startupWait == "RecoveryWalStream"
}
