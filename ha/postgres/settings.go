package postgres

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// managed are the settings that walgate decides on; a user's parameter of that name is refused.
var managed = map[string]string{
	"allow_alter_system":           "walgate checks the settings that it needs itself",
	"archive_cleanup_command":      "it is for standbys that restore from an archive",
	"cluster_name":                 "it is the cluster's name",
	"config_file":                  "walgate writes it",
	"data_directory":               "it is node.data_dir",
	"external_pid_file":            "the guard knows the process",
	"fsync":                        "without it an acknowledged commit can be lost",
	"full_page_writes":             "without it a crash can corrupt pages",
	"hba_file":                     "walgate writes it",
	"hot_standby":                  "standbys serve reads",
	"ident_file":                   "walgate writes it",
	"listen_addresses":             "it is postgres.listen",
	"log_destination":              "the log goes to node.log_file",
	"logging_collector":            "the log goes to node.log_file",
	"lc_messages":                  "walgate reads the log",
	"max_replication_slots":        "it is sized by the number of members",
	"max_slot_wal_keep_size":       "it has a setting of its own",
	"password_encryption":          "it is scram-sha-256",
	"port":                         "it is postgres.port",
	"primary_conninfo":             "walgate decides whom to follow",
	"primary_slot_name":            "walgate decides whom to follow",
	"promote_trigger_file":         "walgate decides who is promoted",
	"recovery_end_command":         "it is for recovery from an archive",
	"recovery_min_apply_delay":     "a delayed standby cannot take over",
	"restore_command":              "the position of a frozen standby must be final",
	"synchronous_standby_names":    "walgate decides whose acknowledgement counts",
	"tcp_keepalives_count":         "dead peers must be noticed in time",
	"tcp_keepalives_idle":          "dead peers must be noticed in time",
	"tcp_keepalives_interval":      "dead peers must be noticed in time",
	"tcp_user_timeout":             "dead peers must be noticed in time",
	"unix_socket_directories":      "it is the run directory",
	"unix_socket_group":            "it is the run directory",
	"unix_socket_permissions":      "it is the run directory",
	"wal_log_hints":                "pg_rewind needs it",
	"wal_receiver_status_interval": "lag must be known in time",
	"wal_receiver_timeout":         "dead peers must be noticed in time",
	"wal_retrieve_retry_interval":  "standbys must come back quickly",
	"wal_sender_timeout":           "dead peers must be noticed in time",
}

var parameterName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?$`)

// checkParameters refuses what walgate manages and what cannot be written to a file.
func checkParameters(parameters map[string]string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		value := parameters[name]
		why, denied := managed[name]
		switch {
		case !parameterName.MatchString(name):
			errs = append(errs, fmt.Errorf("%q is no name: %w", name, ErrParameter))
		case denied:
			errs = append(errs, fmt.Errorf("%s: %s: %w", name, why, ErrParameter))
		case strings.HasPrefix(name, "recovery_target"):
			errs = append(errs, fmt.Errorf("%s: a member always recovers to the end: %w", name, ErrParameter))
		case strings.ContainsAny(value, "\x00\n\r"):
			errs = append(errs, fmt.Errorf("%s: its value has control characters: %w", name, ErrParameter))
		case name == "wal_level" && value != "replica" && value != "logical":
			errs = append(errs, fmt.Errorf("%s %q: standbys need replica or logical: %w", name, value, ErrParameter))
		case isMinimum(name):
			if n, err := strconv.Atoi(value); err != nil || n < 0 {
				errs = append(errs, fmt.Errorf("%s %q is no number: %w", name, value, ErrParameter))
			}
		}
	}
	return errors.Join(errs...)
}

func isMinimum(name string) bool {
	switch name {
	case "max_connections", "max_wal_senders", "max_worker_processes", "max_prepared_transactions", "max_locks_per_transaction":
		return true
	}
	return false
}

// senders is how many walsenders and slots a cluster of the size needs: a dying connection holds its place until it
// times out, a clone takes two, and people's tools want some.
func senders(members int) int { return max(10, 3*members+4) }

// minimums are the five settings with which a standby of this configuration starts: the largest of what the user wants,
// PostgreSQL's default, what the primary has (or it does not start), and what walgate needs.
func minimums(parameters map[string]string, primary Minimums, members int) Minimums {
	wanted := func(name string, byDefault int) int {
		if n, err := strconv.Atoi(parameters[name]); err == nil {
			return n
		}
		return byDefault
	}
	return Minimums{
		MaxConnections:          max(wanted("max_connections", 100), primary.MaxConnections),
		MaxWALSenders:           max(wanted("max_wal_senders", 10), primary.MaxWALSenders, senders(members)),
		MaxWorkerProcesses:      max(wanted("max_worker_processes", 8), primary.MaxWorkerProcesses),
		MaxPreparedTransactions: max(wanted("max_prepared_transactions", 0), primary.MaxPreparedTransactions),
		MaxLocksPerTransaction:  max(wanted("max_locks_per_transaction", 64), primary.MaxLocksPerTransaction),
	}
}

// atLeast returns the larger of each value.
func (m Minimums) atLeast(o Minimums) Minimums {
	return Minimums{
		MaxConnections:          max(m.MaxConnections, o.MaxConnections),
		MaxWALSenders:           max(m.MaxWALSenders, o.MaxWALSenders),
		MaxWorkerProcesses:      max(m.MaxWorkerProcesses, o.MaxWorkerProcesses),
		MaxPreparedTransactions: max(m.MaxPreparedTransactions, o.MaxPreparedTransactions),
		MaxLocksPerTransaction:  max(m.MaxLocksPerTransaction, o.MaxLocksPerTransaction),
	}
}

// arguments returns the five settings for a command line.
func (m Minimums) arguments() []string {
	return []string{
		"-c", "max_connections=" + strconv.Itoa(m.MaxConnections),
		"-c", "max_wal_senders=" + strconv.Itoa(m.MaxWALSenders),
		"-c", "max_worker_processes=" + strconv.Itoa(m.MaxWorkerProcesses),
		"-c", "max_prepared_transactions=" + strconv.Itoa(m.MaxPreparedTransactions),
		"-c", "max_locks_per_transaction=" + strconv.Itoa(m.MaxLocksPerTransaction),
	}
}

// commandLine returns the postmaster's arguments. What stands here beats every file, postgresql.auto.conf included, so
// that ALTER SYSTEM cannot break replication; secrets never stand here.
func (i *Instance) commandLine(bins binaries, parameters map[string]string, primary Minimums) []string {
	m := minimums(parameters, primary, i.cfg.Members)
	level := "replica"
	if parameters["wal_level"] == "logical" {
		level = "logical"
	}
	settings := [][2]string{
		{"config_file", i.statePath("postgresql.conf")},
		{"hba_file", i.statePath("pg_hba.conf")},
		{"ident_file", i.statePath("pg_ident.conf")},
		{"listen_addresses", i.cfg.ListenAddresses},
		{"port", strconv.Itoa(i.cfg.Port)},
		{"unix_socket_directories", i.cfg.RunDir},
		{"unix_socket_permissions", "0700"},
		{"cluster_name", i.cfg.Cluster},
		{"logging_collector", "off"},
		{"log_destination", "stderr"},
		{"lc_messages", "C"},
		{"wal_level", level},
		{"hot_standby", "on"},
		{"wal_log_hints", "on"},
		{"fsync", "on"},
		{"full_page_writes", "on"},
		{"password_encryption", "scram-sha-256"},
		{"max_replication_slots", strconv.Itoa(senders(i.cfg.Members))},
		{"max_slot_wal_keep_size", strconv.FormatInt(max(i.cfg.MaxSlotWAL>>20, 1), 10) + "MB"},
		{"wal_retrieve_retry_interval", "100ms"},
		{"wal_receiver_status_interval", "1s"},
		{"wal_receiver_timeout", "6s"},
		{"wal_sender_timeout", "6s"},
		{"tcp_keepalives_idle", "5"},
		{"tcp_keepalives_interval", "2"},
		{"tcp_keepalives_count", "3"},
		{"tcp_user_timeout", "10s"},
		{"recovery_target_timeline", "latest"},
		{"recovery_min_apply_delay", "0"},
		{"restore_command", ""},
	}
	args := []string{bins.path("postgres"), "-D", i.cfg.DataDir}
	for _, s := range settings {
		args = append(args, "-c", s[0]+"="+s[1])
	}
	return append(args, m.arguments()...)
}

// Files in Config.StateDir. postgresql.conf includes the others in this order; later ones win.
const (
	initialConf    = "initial.conf"    // what initdb or an administrator wrote in the data directory, copied at each start
	parametersConf = "parameters.conf" // the user's
	followConf     = "follow.conf"     // whom to follow
	syncConf       = "sync.conf"       // whose acknowledgement counts
)

// reloaded are the settings that walgate changes by reload. They stand in files, so a line of ALTER SYSTEM would beat
// them: it is taken out before every start and reload.
var reloaded = []string{
	"primary_conninfo", "primary_slot_name", "synchronous_standby_names", "max_standby_streaming_delay",
	"max_standby_archive_delay",
}

func (i *Instance) statePath(name string) string { return filepath.Join(i.cfg.StateDir, name) }

// writeStatic writes the files that change only between starts.
func (i *Instance) writeStatic(owner *guard.Owner) error {
	initial, err := os.ReadFile(filepath.Join(i.cfg.DataDir, "postgresql.conf"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read postgresql.conf: %w", err)
	}
	main := "# Written by walgate at each start.\n" +
		// pg_rewind reads the local WAL back to the last checkpoint before the fork.
		"wal_keep_size = '256MB'\n"
	for _, name := range []string{initialConf, parametersConf, followConf, syncConf} {
		main += "include_if_exists " + quoteConf(i.statePath(name)) + "\n"
	}
	// Whose acknowledgement counts outlives a restart: the file is only made.
	if !exists(i.statePath(syncConf)) {
		if err := writeFile(owner, i.statePath(syncConf), nil); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{initialConf, withoutManaged(initial)},
		{"pg_hba.conf", []byte(i.hba())},
		{"pg_ident.conf", nil},
		{"passfile", []byte(i.passfile())},
		{"postgresql.conf", []byte(main)},
	} {
		if err := writeFile(owner, i.statePath(f.name), f.content); err != nil {
			return err
		}
	}
	return nil
}

// withoutManaged takes what walgate decides out of a configuration file: at each reload PostgreSQL would complain that
// it cannot be changed.
func withoutManaged(content []byte) []byte {
	var b strings.Builder
	for line := range strings.Lines(string(content)) {
		name := strings.ToLower(strings.TrimSpace(line))
		if end := strings.IndexAny(name, " \t='"); end >= 0 {
			name = name[:end]
		}
		if _, ours := managed[name]; !ours && !isMinimum(name) && name != "wal_level" && !slices.Contains(reloaded, name) {
			b.WriteString(line)
		}
	}
	return []byte(b.String())
}

// hba lets everyone in with a password: over the socket (whose directory is the owner's alone), from this machine, and
// from the configured networks.
func (i *Instance) hba() string {
	var b strings.Builder
	b.WriteString("# Written by walgate at each start.\n")
	b.WriteString("local all all scram-sha-256\nlocal replication all scram-sha-256\n")
	networks := []string{"127.0.0.1/32", "::1/128"}
	for _, n := range i.cfg.Networks {
		if text := n.Masked().String(); !slices.Contains(networks, text) {
			networks = append(networks, text)
		}
	}
	for _, n := range networks {
		fmt.Fprintf(&b, "host all all %s scram-sha-256\nhost replication all %s scram-sha-256\n", n, n)
	}
	return b.String()
}

// passfile holds the passwords with which this node logs in to others.
func (i *Instance) passfile() string {
	var b strings.Builder
	for _, role := range []string{RoleReplicator, RoleRewind, RoleMonitor} {
		fmt.Fprintf(&b, "*:*:*:%s:%s\n", role, i.cfg.Secret.Password(role))
	}
	return b.String()
}

// writeParameters writes the user's settings; those on the command line are left out.
func (i *Instance) writeParameters(owner *guard.Owner, parameters map[string]string) error {
	var b strings.Builder
	b.WriteString("# Written by walgate from its configuration.\n")
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		if !isMinimum(name) && name != "wal_level" {
			fmt.Fprintf(&b, "%s = %s\n", name, quoteConf(parameters[name]))
		}
	}
	return writeFile(owner, i.statePath(parametersConf), []byte(b.String()))
}

// scrub takes the lines of our reloaded settings out of postgresql.auto.conf.
func (i *Instance) scrub(owner *guard.Owner) error {
	path := filepath.Join(i.cfg.DataDir, "postgresql.auto.conf")
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read postgresql.auto.conf: %w", err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	kept := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		name, _, ok := strings.Cut(line, "=")
		return ok && slices.Contains(reloaded, strings.ToLower(strings.TrimSpace(name)))
	})
	if len(kept) == len(lines) {
		return nil
	}
	i.log.Warn("took settings of walgate out of postgresql.auto.conf", "lines", len(lines)-len(kept))
	return writeFile(owner, path, []byte(strings.Join(kept, "")))
}

// quoteConf quotes a value for a configuration file (src/backend/utils/misc/guc-file.l, DeescapeQuotedString).
func quoteConf(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'"
}

// quoteConninfo quotes a value for a connection string (libpq, "Keyword/Value Connection Strings").
func quoteConninfo(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
