-- Prints the names for builtin.txt: psql -At -f builtin.sql | fmt -w 118. Left out, besides support functions that
-- nobody calls: what answers for the node it runs on, and what fails during recovery though it is declared stable.
select proname from pg_proc p
where pronamespace='pg_catalog'::regnamespace
group by 1
having bool_and(provolatile in ('s','i') and prokind in ('f','w','a'))
   and bool_or(not ('internal'::regtype = any(proargtypes::oid[]) or 'cstring'::regtype = any(proargtypes::oid[])
     or prorettype in ('internal'::regtype,'cstring'::regtype,'trigger'::regtype,'event_trigger'::regtype)))
   and proname !~ '^(pg_stat_get_|pg_event_trigger_|binary_upgrade_)' and proname !~ '^pg_(ddl_command|dependencies|mcv_list|ndistinct|node_tree)_'
   and proname !~ '(_|^)(recv|send)$' and proname !~ '(recv|send)$'
   and proname <> all('{pg_backend_pid,pg_conf_load_time,pg_postmaster_start_time,pg_config,pg_current_snapshot,pg_current_xact_id,pg_current_xact_id_if_assigned,pg_visible_in_snapshot,pg_cursor,pg_prepared_statement,pg_listening_channels,pg_get_replication_slots,pg_my_temp_schema,pg_is_other_temp_schema,pg_relation_filenode,pg_relation_filepath,pg_filenode_relation,pg_walfile_name,pg_walfile_name_offset,txid_current,txid_current_if_assigned,txid_current_snapshot,txid_visible_in_snapshot,current_setting,pg_trigger_depth,pg_replication_origin_oid}')
order by 1
