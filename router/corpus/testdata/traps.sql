# Objects of users that are not what they seem.
#: primary
select «lying_sequence()¦lying_lock(5)¦lying_plpgsql()¦lying_dynamic()¦lying_modern()¦lying_deep()¦lying_setting()¦where_am_i()¦read_scratch()¦read_sequence()¦with_default()¦takes_domain('x')¦public.lying_lock(5)¦"lying_lock"(6)¦LYING_LOCK(6)¦1 + lying_sequence()»
select «loud_sum(id)¦lying_sum(id)» from customers
select «'x'::guarded_text¦cast('x' as guarded_text)¦guarded_text 'x'¦null::public.guarded_text¦json_populate_record(null::with_domain, '{"e":"x"}')¦jsonb_populate_record(cast(null as with_domain), '{"e":"x"}')»
select * from jsonb_to_record('{"e":"x"}') as x(e guarded_text)
select «tok::text¦lower(tok)¦length(tok)» from tokens
select 5::token
select row('x')::token::text
select * from «loud_view limit 1¦over_loud limit 1¦locking_view limit 1¦scratch_view¦scratch¦half_logged¦activity¦settings_view limit 1¦sequence_view¦remote¦guarded_loud¦"Loud View"»
select count(*) from «customers, scratch¦customers where id in (select a from scratch)¦(select * from loud_view limit 1) x¦customers c join loud_view v using (id)¦(table scratch) x»
with a as (select * from loud_view limit 1) select * from a
set search_path = evil, pg_catalog; select acosd(1); reset search_path
select evil.acosd(1)
select acosd(1)
explain (costs off) select * from loud_view
select distinct r from loud_view limit 1
select exists (select 1 from scratch)
