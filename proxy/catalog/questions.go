package catalog

// The questions work on PostgreSQL 13 to 18 and need no more than the right to connect. Oids below 16384 are those of
// initdb: its functions outside pg_catalog are information_schema's.

// fingerprintQuestion changes its answer whenever the others may. xmin is that of the row's last change.
const fingerprintQuestion = `
select concat_ws(' ',
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_proc where pronamespace <> 11),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_class
   where oid >= 16384 and (relkind in ('v', 'f') or relpersistence = 'u' or relrowsecurity)),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_rewrite where oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_operator where oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_policy),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_constraint
   where oid >= 16384 and contypid <> 0),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_cast where oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(inhrelid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_inherits))`

// functionsQuestion: name, has it a volatile overload, and can that be called as if it were a column. An aggregate or
// window function is as volatile as the functions that it is made of.
const functionsQuestion = `
select p.proname,
  bool_or(v.volatile),
  bool_or(v.volatile and p.pronargs - p.pronargdefaults <= 1 and t.typtype in ('c', 'p'))
from pg_catalog.pg_proc p
left join pg_catalog.pg_type t on t.oid = p.proargtypes[0]
left join pg_catalog.pg_aggregate a on a.aggfnoid = p.oid
cross join lateral (select p.provolatile = 'v' or exists (
  select from pg_catalog.pg_proc part where part.provolatile = 'v' and part.oid in (
    a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)) as volatile) v
where p.pronamespace <> 11 and p.prokind in ('f', 'w', 'a')
group by 1`

// impureQuestion: what a standby can't read, or reads with an effect, whatever the statement: unlogged and foreign tables
// with all that they are parts of; types that volatile functions read or make.
const impureQuestion = `
with recursive apart(oid) as (
  select oid from pg_catalog.pg_class where relpersistence = 'u' and relkind in ('r', 'S', 'm', 'p') or relkind = 'f'
  union
  select inhparent from pg_catalog.pg_inherits join apart on apart.oid = inhrelid)
select relname from pg_catalog.pg_class natural join apart
union
select t.typname from pg_catalog.pg_type t join pg_catalog.pg_proc p on p.oid = t.typinput
where p.provolatile = 'v' and p.pronamespace <> 11
union
select t.typname from pg_catalog.pg_cast c join pg_catalog.pg_type t on t.oid = c.casttarget
join pg_catalog.pg_proc p on p.oid = c.castfunc where p.provolatile = 'v' and p.pronamespace <> 11`

// operatorsQuestion: symbols of operators with a volatile function.
const operatorsQuestion = `
select distinct o.oprname from pg_catalog.pg_operator o join pg_catalog.pg_proc p on p.oid = o.oprcode
where p.provolatile = 'v' and o.oid >= 16384`

// expansionsQuestion: names whose mention makes PostgreSQL run a text that is not in the statement, with that text as
// something that can be classified: views, tables with row security, domains with checks.
const expansionsQuestion = `
select c.relname, pg_catalog.pg_get_viewdef(c.oid) from pg_catalog.pg_class c where c.relkind = 'v' and c.oid >= 16384
union all
select c.relname, 'select ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid)
from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
where p.polcmd in ('r', '*') and p.polqual is not null
union all
select t.typname, 'select ' || pg_catalog.pg_get_expr(k.conbin, 0)
from pg_catalog.pg_constraint k join pg_catalog.pg_type t on t.oid = k.contypid`
