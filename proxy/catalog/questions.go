package catalog

// The questions work on PostgreSQL 13 to 18 and need no more than the right to connect. Oids below 16384 are those of
// initdb: its functions outside pg_catalog are information_schema's.

// fingerprintQuestion changes its answer whenever the others may. xmin is that of the row's last change.
const fingerprintQuestion = `
select concat_ws(' ',
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_proc
   where pronamespace <> 11 or oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_class
   where oid >= 16384 and (relkind in ('v', 'f', 'S') or relpersistence = 'u' or relrowsecurity)),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_rewrite where oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_operator where oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_policy),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_constraint
   where oid >= 16384 and contypid <> 0),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(oid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_cast where oid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(attrelid::text || ' ' || attnum || ' ' || xmin)::bigint))
   from pg_catalog.pg_attribute where atttypid >= 16384),
  (select concat(count(*), ':', sum(pg_catalog.hashtext(inhrelid::text || ' ' || xmin)::bigint)) from pg_catalog.pg_inherits))`

// functionsQuestion: oid, name, is it volatile, can it be called as if it were a column, and its definition with types,
// defaults and body, in whatever language; that of a volatile one says no more.
const functionsQuestion = `
select p.oid, p.proname, p.provolatile = 'v', p.pronargs - p.pronargdefaults <= 1 and t.typtype in ('c', 'p'),
  case when p.provolatile <> 'v' then pg_catalog.pg_get_functiondef(p.oid) end
from pg_catalog.pg_proc p
left join pg_catalog.pg_type t on t.oid = p.proargtypes[0]
where (p.pronamespace <> 11 or p.oid >= 16384) and p.prokind in ('f', 'w')`

// usesQuestion: what stands for functions: 'o', operators by their symbol; 'a', aggregates by their name; 't', types by their
// name, with the function, and (for all but aggregates) a type that is concerned though nobody need mention it: that of an
// operand, the source of a cast, the type that is read or shown. A function's oid stands for itself; 0 is a volatile one of
// PostgreSQL's own, and -1 another of those.
const usesQuestion = `
with own(oid, stands) as (
  select oid, case when pronamespace <> 11 or oid >= 16384 then oid::bigint when provolatile = 'v' then 0 end from pg_catalog.pg_proc)
select 'o', o.oprname, own.stands, operand
from pg_catalog.pg_operator o join own on own.oid = o.oprcode, unnest(array[o.oprleft, o.oprright]) operand
where o.oid >= 16384 and stands is not null
union
select 'a', p.proname, coalesce(own.stands, -1), 0
from pg_catalog.pg_aggregate a join pg_catalog.pg_proc p on p.oid = a.aggfnoid
join own on own.oid in (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
where p.oid >= 16384
union
select 't', case when t.oid >= 16384 or s.oid < 16384 then t.typname end, own.stands, case when s.oid >= 16384 then s.oid else 0 end
from pg_catalog.pg_cast c join pg_catalog.pg_type t on t.oid = c.casttarget join pg_catalog.pg_type s on s.oid = c.castsource
join own on own.oid = c.castfunc
where c.oid >= 16384 and stands is not null
union
select 't', t.typname, own.stands, t.oid
from pg_catalog.pg_type t join own on own.oid in (t.typinput, t.typoutput, t.typreceive, t.typsend)
where t.oid >= 16384 and stands > 0`

// columnsQuestion: types of users, and the relations that have columns of them or of arrays of them.
const columnsQuestion = `
select t.oid, t.typname, t.typtype = 'd', coalesce(string_agg(distinct c.relname, '/'), '')
from pg_catalog.pg_type t
left join pg_catalog.pg_attribute a on a.attnum > 0 and not a.attisdropped and a.atttypid in (t.oid, nullif(t.typarray, 0))
left join pg_catalog.pg_class c on c.oid = a.attrelid
where t.oid >= 16384 and t.typtype in ('b', 'c', 'd', 'e', 'r') and t.typcategory <> 'A'
  and (t.typtype <> 'c' or exists (select from pg_catalog.pg_class r where r.oid = t.typrelid and r.relkind = 'c'))
group by 1, 2, 3`

// impureQuestion: what a standby can't read: unlogged and foreign tables with all that they are parts of; and sequences,
// whose value the log is ahead of.
const impureQuestion = `
with recursive apart(oid) as (
  select oid from pg_catalog.pg_class where relpersistence = 'u' and relkind in ('r', 'm', 'p') or relkind in ('f', 'S')
  union
  select inhparent from pg_catalog.pg_inherits join apart on apart.oid = inhrelid)
select relname from pg_catalog.pg_class natural join apart`

// expansionsQuestion: names whose mention makes PostgreSQL run a text that is not in the statement, with that text as
// something that can be classified, and the domain's oid: views, tables with row security, domains with checks.
const expansionsQuestion = `
select c.relname, pg_catalog.pg_get_viewdef(c.oid), 0 from pg_catalog.pg_class c where c.relkind = 'v' and c.oid >= 16384
union all
select c.relname, 'select ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid), 0
from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
where p.polcmd in ('r', '*') and p.polqual is not null
union all
select t.typname, 'select ' || pg_catalog.pg_get_expr(k.conbin, 0), t.oid
from pg_catalog.pg_constraint k join pg_catalog.pg_type t on t.oid = k.contypid`
