package monitor

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// The question works on PostgreSQL 13 to 18, on a primary and on a standby. A primary's timeline is the one it writes
// (the control file's is that of its last checkpoint). A standby's is the one it receives, which has what it replayed
// as an ancestor, or without a receiver the newest that its control file knows. The last column tells whether somebody's
// commits do not wait for the flush by default: then the insert position stands for the flush position.
const question = `
select s.standby,
  (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
  case when not s.standby
    then ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int
    else coalesce(r.received_tli, (select greatest(c.timeline_id, m.min_recovery_end_timeline)
      from pg_control_checkpoint() c, pg_control_recovery() m)) end,
  case when s.standby then coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) else pg_current_wal_flush_lsn() end,
  case when s.standby then pg_last_wal_replay_lsn() end,
  coalesce(r.status = 'streaming', false),
  coalesce(r.sender_host, ''), coalesce(r.sender_port, 0),
  case when not s.standby then pg_current_wal_insert_lsn() end,
  current_setting('synchronous_commit') = 'off' or exists (select from pg_db_role_setting d, unnest(d.setconfig) c
    where lower(c) in ('synchronous_commit=off', 'synchronous_commit=false', 'synchronous_commit=no', 'synchronous_commit=0'))
from (select pg_is_in_recovery() as standby) s left join pg_stat_wal_receiver r on s.standby`

// standbysQuestion asks a primary what it thinks of those that stream from it.
const standbysQuestion = `select application_name, coalesce(sync_state, '') from pg_stat_replication where state = 'streaming'`

const (
	questionName = "where_are_you"
	standbysName = "who_follows_you"
)

// answer is what one PostgreSQL said.
type answer struct {
	status    replication.Status            // without Node, AskedAt, At and what is relative to the primary
	syncState map[replication.NodeID]string // nil: it was not asked for
	insert    replication.LSN               // of a primary
	async     bool                          // by default, or for some role or database, commits do not wait for the flush
}

// server is the connection to one member; nil between errors. One goroutine owns it.
type server struct {
	cfg    Config
	member replication.Member
	conn   *pgconn.PgConn
	life   int64 // of conn: when it was made
	// followers is when it was asked last who streams from it: that question costs as much as the other one, and nothing
	// waits for its answer.
	followers replication.Instant
}

// ask returns the member's answer, logging in first if need be. After an error the connection is gone.
func (s *server) ask(ctx context.Context) (answer, error) {
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return answer{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.QueryTimeout)
	defer cancel()
	var batch pgconn.Batch
	batch.ExecPrepared(questionName, nil, nil, nil)
	if now := boottime.Now(); now.Sub(s.followers) >= s.cfg.IdlePeriod {
		batch.ExecPrepared(standbysName, nil, nil, nil)
		s.followers = now
	}
	results, err := s.conn.ExecBatch(ctx, &batch).ReadAll()
	if err != nil {
		s.close()
		return answer{}, fmt.Errorf("ask: %w", err)
	}
	a, err := readAnswer(results)
	if err != nil {
		s.close()
	}
	a.status.Life = s.life
	return a, err
}

func (s *server) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	config, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return fmt.Errorf("build config: %w", err)
	}
	password, err := s.cfg.Password()
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	config.Host, config.Port, config.Fallbacks = s.member.Host, uint16(s.member.Port), nil
	config.User, config.Password, config.Database = s.cfg.User, password, s.cfg.Database
	if s.cfg.TLS != nil {
		config.TLSConfig = s.cfg.TLS.Clone()
		if config.TLSConfig.ServerName == "" {
			config.TLSConfig.ServerName = s.member.Host
		}
	}
	// Nothing that a role or database may set can change the answers.
	config.RuntimeParams = map[string]string{
		"application_name":              "walgate_monitor",
		"client_encoding":               "UTF8",
		"default_transaction_isolation": "read committed",
		"search_path":                   "pg_catalog",
		"jit":                           "off",
		"statement_timeout":             strconv.FormatInt(s.cfg.QueryTimeout.Milliseconds(), 10),
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.conn, s.life, s.followers = conn, int64(boottime.Now()), 0
	for _, p := range []struct{ name, sql string }{{questionName, question}, {standbysName, standbysQuestion}} {
		if _, err := conn.Prepare(ctx, p.name, p.sql, nil); err != nil {
			s.close()
			return fmt.Errorf("prepare: %w", err)
		}
	}
	return nil
}

// close drops the connection without a farewell, which a frozen server would not read.
func (s *server) close() {
	if s.conn == nil {
		return
	}
	_ = s.conn.Conn().Close() // nothing is lost with it
	s.conn = nil
}

// readAnswer reads the results of one question or both.
func readAnswer(results []*pgconn.Result) (a answer, err error) {
	if len(results) == 0 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 10 {
		return a, fmt.Errorf("read answer: %d results of an unexpected form", len(results))
	}
	row := results[0].Rows[0]
	st := &a.status
	st.Reachable, st.Role = true, replication.RolePrimary
	if st.Incarnation, err = strconv.ParseInt(string(row[1]), 10, 64); err != nil {
		return a, fmt.Errorf("read start time: %w", err)
	}
	timeline, err := strconv.ParseInt(string(row[2]), 10, 64)
	if err != nil {
		return a, fmt.Errorf("read timeline: %w", err)
	}
	st.Timeline = replication.Timeline(uint32(timeline))
	if err := st.Received.UnmarshalText(row[3]); err != nil {
		return a, fmt.Errorf("read position: %w", err)
	}
	st.Replayed = st.Received
	if string(row[0]) == "t" {
		st.Role = replication.RoleStandby
		st.Streaming = string(row[5]) == "t"
		if err := st.Replayed.UnmarshalText(row[4]); err != nil {
			return a, fmt.Errorf("read replay position: %w", err)
		}
		if len(row[6]) > 0 {
			st.Upstream = net.JoinHostPort(string(row[6]), string(row[7]))
		}
		return a, nil
	}
	if err := a.insert.UnmarshalText(row[8]); err != nil {
		return a, fmt.Errorf("read insert position: %w", err)
	}
	a.async = string(row[9]) == "t"
	if len(results) < 2 {
		return a, nil
	}
	a.syncState = make(map[replication.NodeID]string, len(results[1].Rows))
	for _, standby := range results[1].Rows {
		if len(standby) == 2 {
			a.syncState[replication.NodeID(standby[0])] = string(standby[1])
		}
	}
	return a, nil
}
