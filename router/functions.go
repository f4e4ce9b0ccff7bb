package router

import (
	_ "embed" // for the list of built-in functions
	"strings"
)

// funcClass is what a call of a function means for routing. The zero class is a function that is not PostgreSQL's own,
// or not in the tables: it may do anything.
type funcClass uint8

const (
	funcUnknown     funcClass = iota
	funcPure                  // stable, immutable, or volatile but harmless
	funcSyntax                // no function at all: a keyword or type that takes parentheses
	funcKeyword               // a function, or no function at all: see callableWords
	funcWhere                 // tells where it runs; counts as a read so that users can see where reads run
	funcNodeLocal             // answers for the node or backend it runs on
	funcVolatile              // PostgreSQL's own, with an effect that only the primary should see
	funcAdvisory              // takes or gives back session-level advisory locks
	funcAdvisoryTx            // takes those of the transaction
	funcAdvisoryAll           // gives back all of them
	funcSequence
	funcRecall // asks for the last value of a sequence
	funcSetConfig
	funcCurrentSetting
	funcSeed
	funcSnapshot
	funcLargeObject
	funcProcess    // takes the id of a server process
	funcStatements // shows the prepared statements of the server connection
)

//go:embed builtin.txt
var builtinText string

var functions = buildFunctions(builtinText)

// Functions that later versions than the list's added, and volatile ones without any effect.
const alsoPure = `pg_settings_get_flags any_value array_reverse array_sample array_shuffle array_sort bit_count casefold clock_timestamp crc32
crc32c date_add date_subtract erf erfc gamma gen_random_uuid json_array json_arrayagg json_exists json_objectagg
json_query json_scalar json_serialize json_table json_value lgamma pg_basetype pg_partition_ancestors pg_partition_tree pg_input_error_info pg_input_is_valid
pg_sleep pg_sleep_for pg_sleep_until random random_normal range_intersect_agg regexp_count statement_timestamp
system_user timeofday to_bin to_oct unicode_assigned uuid_extract_timestamp uuid_extract_version uuidv4 uuidv7 xmltext`

// syntaxWords are keywords that may stand before a parenthesis and can't be the name of a function, unless quoted; and cube
// and rollup, which stand where calls do, but whose only functions known are harmless.
const syntaxWords = `all and any array as between bit case cast char character check coalesce collate cube dec decimal default
distinct else end except exists extract fetch float for from greatest group grouping having in int integer intersect
interval lateral least limit national nchar not null nullif numeric offset on only or order overlay position real
returning rollup row select setof smallint some substring symmetric then time timestamp to trim union unique using values
varchar variadic when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse
xmlpi xmlroot xmlserialize xmltable current_time current_timestamp localtime localtimestamp do constraint references
foreign primary`

// callableWords are such that can: what stands before them tells. Where an expression has just ended there can be no call,
// so that only keywords need be named here, for each.
var callableWords = map[string]string{
	"by": "group order partition", "sets": "grouping", "first": "fetch", "next": "fetch",
	"materialized": "as not", "join": "left right inner outer cross full natural", "like": "not", "ilike": "not",
	"zone": "time", "varying": "character char bit nchar", "conflict": "on", "key": "primary foreign", "set": "update do",
	"filter": "", "over": "", "repeatable": "", "operator": "", "range": "", "rows": "", "groups": "", "escape": "",
	"passing": "", "path": "", "columns": "", "value": "", "insert": "",
}

// What is PostgreSQL's own and has an effect, or runs what it is told: TREAT(x AS f) calls f.
const volatileBuiltins = `treat brin_desummarize_range brin_summarize_new_values brin_summarize_range current_query currtid2
cursor_to_xml cursor_to_xmlschema gin_clean_pending_list lo_close lo_creat lo_create lo_export lo_from_bytea lo_get
lo_import lo_lseek lo_lseek64 lo_put lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite
pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup pg_copy_logical_replication_slot
pg_copy_physical_replication_slot pg_create_logical_replication_slot pg_create_physical_replication_slot
pg_create_restore_point pg_drop_replication_slot pg_import_system_collations
pg_logical_emit_message pg_logical_slot_get_binary_changes pg_logical_slot_get_changes
pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes pg_nextoid pg_notify pg_promote pg_reload_conf
pg_replication_slot_advance pg_rotate_logfile pg_stat_reset pg_switch_wal pg_wal_replay_pause
pg_wal_replay_resume pg_current_xact_id txid_current pg_xact_status txid_status pg_last_committed_xact
pg_xact_commit_timestamp table_to_xml table_to_xmlschema table_to_xml_and_xmlschema schema_to_xml
schema_to_xmlschema schema_to_xml_and_xmlschema database_to_xml database_to_xmlschema database_to_xml_and_xmlschema`

const processFunctions = `pg_cancel_backend pg_terminate_backend pg_log_backend_memory_contexts pg_blocking_pids
pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked pg_stat_get_activity`

const nodeLocalFunctions = `pg_backend_pid pg_conf_load_time pg_postmaster_start_time pg_config pg_current_snapshot
pg_current_xact_id_if_assigned pg_visible_in_snapshot pg_cursor pg_listening_channels
pg_get_replication_slots pg_my_temp_schema pg_is_other_temp_schema pg_relation_filenode pg_relation_filepath
pg_filenode_relation pg_walfile_name pg_walfile_name_offset txid_current_if_assigned txid_current_snapshot
txid_visible_in_snapshot pg_trigger_depth pg_control_checkpoint
pg_control_init pg_control_recovery pg_control_system pg_current_logfile pg_current_wal_flush_lsn
pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_size pg_indexes_size pg_relation_size pg_table_size
pg_tablespace_size pg_total_relation_size pg_get_wal_replay_pause_state pg_is_wal_replay_paused
pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status pg_ls_dir pg_ls_logdir
pg_ls_waldir pg_ls_tmpdir pg_ls_archive_statusdir pg_ls_replslotdir pg_read_file pg_read_binary_file pg_stat_file
pg_notification_queue_usage pg_prepared_xact pg_show_all_file_settings pg_hba_file_rules pg_ident_file_mappings
pg_get_shmem_allocations pg_get_backend_memory_contexts pg_jit_available pg_show_all_settings
pg_sequence_last_value pg_tablespace_location pg_tablespace_databases inet_client_addr inet_client_port`

func buildFunctions(builtin string) map[string]funcClass {
	table := make(map[string]funcClass, 2048)
	_, builtin, _ = strings.Cut(builtin, "\n") // the first line is a comment
	add := func(class funcClass, names string) {
		for name := range strings.FieldsSeq(names) {
			table[name] = class
		}
	}
	add(funcPure, builtin)
	add(funcPure, alsoPure)
	for name := range strings.FieldsSeq(syntaxWords) {
		if table[name] == funcUnknown { // others, like left, are functions too
			table[name] = funcSyntax
		}
	}
	for name := range callableWords {
		table[name] = funcKeyword
	}
	add(funcVolatile, volatileBuiltins)
	add(funcNodeLocal, nodeLocalFunctions)
	add(funcWhere, "pg_is_in_recovery inet_server_port inet_server_addr")
	add(funcAdvisory, `pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared
		pg_advisory_unlock pg_advisory_unlock_shared`)
	add(funcAdvisoryTx, `pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock
		pg_try_advisory_xact_lock_shared`)
	add(funcAdvisoryAll, "pg_advisory_unlock_all")
	add(funcSequence, "nextval setval")
	add(funcRecall, "currval lastval")
	add(funcSetConfig, "set_config")
	add(funcCurrentSetting, "current_setting")
	add(funcSeed, "setseed")
	add(funcSnapshot, "pg_export_snapshot")
	add(funcLargeObject, "lo_open")
	add(funcProcess, processFunctions)
	add(funcStatements, "pg_prepared_statement")
	return table
}

// nodeLocalRelations are system views, besides all whose name begins with pg_stat_ or pg_statio_, whose content
// belongs to the node or backend that is asked.
var nodeLocalRelations = map[string]bool{
	"pg_locks": true, "pg_prepared_xacts": true, "pg_cursors": true, "pg_prepared_statements": true,
	"pg_replication_slots": true, "pg_replication_origin_status": true, "pg_shmem_allocations": true,
	"pg_shmem_allocations_numa": true, "pg_backend_memory_contexts": true, "pg_hba_file_rules": true,
	"pg_ident_file_mappings": true, "pg_file_settings": true, "pg_settings": true, "pg_sequences": true, "pg_config": true, "pg_buffercache": true, "pg_aios": true,
}

// relationFlags tells what is special about looking at such a view.
func relationFlags(name []byte) Flags {
	switch string(name) {
	case "pg_stat_activity", "pg_locks":
		return NodeLocal | Processes
	case "pg_prepared_statements":
		return NodeLocal | OwnStatements
	}
	return NodeLocal
}

// sharedSettings are parameters whose value is the session's own, or the same on all nodes of a cluster, so that SHOW
// and current_setting may be answered anywhere. Custom parameters (with a dot) are the session's own.
var sharedSettings = map[string]bool{
	"application_name": true, "client_encoding": true, "client_min_messages": true, "datestyle": true,
	"default_text_search_config": true, "extra_float_digits": true, "integer_datetimes": true, "intervalstyle": true,
	"is_superuser": true, "lc_collate": true, "lc_ctype": true, "lc_messages": true, "lc_monetary": true,
	"lc_numeric": true, "lc_time": true, "bytea_output": true, "lock_timeout": true, "role": true,
	"search_path": true, "server_encoding": true, "server_version": true, "server_version_num": true,
	"session_authorization": true, "standard_conforming_strings": true, "statement_timeout": true, "timezone": true,
	"block_size": true, "segment_size": true, "max_identifier_length": true, "max_index_keys": true,
	"max_function_args": true, "row_security": true, "xmloption": true, "work_mem": true,
}

// isCommandID reports whether a lower-case name is that of a system column which the log does not carry.
func isCommandID(name []byte) bool { return string(name) == "cmin" || string(name) == "cmax" }

// isNodeLocalRelation takes a lower-case name, of a relation or one of those columns.
func isNodeLocalRelation(name []byte) bool {
	if isCommandID(name) {
		return true
	}
	if len(name) < 7 || string(name[:3]) != "pg_" {
		return false
	}
	const stat, statio = "pg_stat_", "pg_statio_"
	if len(name) > len(stat) && string(name[:len(stat)]) == stat {
		return true
	}
	if len(name) > len(statio) && string(name[:len(statio)]) == statio {
		return true
	}
	return nodeLocalRelations[string(name)]
}

// classOf takes a lower-case name. What begins with pg_stat_ or pg_replication_origin_ is node-local or worse.
func classOf(name []byte) funcClass {
	if len(name) > 0 && mayBeKnown(name) {
		if class, ok := functions[string(name)]; ok {
			return class
		}
	}
	if len(name) > 8 && string(name[:8]) == "pg_stat_" {
		return funcNodeLocal
	}
	return funcUnknown
}
