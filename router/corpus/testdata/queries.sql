# What queries are made of.
#: read
select «1¦-1¦'a'¦null¦true¦1.5¦.5¦1e3¦$$a$$¦E'a\n'¦B'01'¦X'1F'¦N'x'¦U&'\0061'¦array[1,2]¦row(1,'a')¦interval '1 day'¦date '2024-01-01'¦'2024-01-01'::date¦cast('1' as int)»
select
select * from «customers¦customers c¦customers as c¦public.customers¦only customers¦customers *¦"customers"¦public."customers" as "C"» order by 1
select «*¦id, name¦c.*¦c.id as "Id", c."Active"¦c.name n¦count(*)¦distinct status¦distinct on (id) id, name» from «customers c, (select 'x' as status) s» where c.id < 5 order by 1
table «customers¦only customers¦public.customers¦shop.orders»
values «(1)¦(1, 'a'), (2, 'b')¦(1), (2) order by 1 desc limit 1¦((select max(id) from customers))»
(select 1) «union¦union all¦intersect¦except¦except all» (select «1¦2»)
«(select 1)¦((select 1))¦(((values (1))))¦(table shop.orders)¦(select 1) order by 1¦((select 1) limit 1) limit 1¦(with a as (select 1) select * from a)»
select 1 union select 2 order by 1 «limit 1¦offset 1¦fetch first row only¦fetch next (1) rows only¦limit (select 1)¦limit all¦fetch first 1 rows with ties»
with a as «¦materialized¦not materialized» (select 1 as x) select * from a
with «a(x) as (select 1), b(y) as (select x + 1 from a)¦a as (select 1 as x), b(y, z) as (values (1, 2))¦a as (values (1)), b(y) as (table a)¦a as (select 1 as x), b(y) as materialized (select 2)¦a as (select 1), b(y) as not materialized (with q as (select 5) select * from q)» select * from b
with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) select «*¦sum(n)» from t
with recursive tree(id, parent_id) as (select id, parent_id from customers where id = 1 union all select c.id, c.parent_id from customers c join tree t on c.parent_id = t.id) «¦search depth first by id set ord¦search breadth first by id set ord¦cycle id set looped using path¦cycle id set looped to 'y' default 'n' using path» select count(*) from tree
select c.name, o.total from customers c «join¦inner join¦left join¦left outer join¦right join¦full join¦full outer join» orders o on «o.customer_id = c.id¦(o.customer_id = c.id and o.total > 5)» where c.id = 3 order by 1, 2
select * from customers cross join (values (1), (2)) v(x) where id = 1
select * from orders natural join (select 5 as id) x
select * from orders o join shop.orders s using (id) order by id
select * from orders o join shop.orders s using (id) as u order by u.id
select * from customers c, lateral (select * from orders o where o.customer_id = c.id order by id limit 1) x order by c.id limit 3
select * from customers c left join lateral (select max(total) as m from orders where customer_id = c.id) m on true where c.id < 4 order by 1
select * from generate_series(1, 3) «with ordinality g(i, n)¦as g¦g¦as g(i)¦g(i)¦with ordinality¦with ordinality as g(i, n)»
select * from unnest(array[1,2], array['a','b']) «as u(a, b)¦with ordinality as u(a, b, n)¦u(a, b)»
select * from rows from (generate_series(1, 2), generate_series(1, 3)) as r(a, b)
select * from json_to_record('{"a":1}') as x(a int, b text)
select * from customers c, json_to_record('{"a":1}') as x(a int) where c.id = 1
select * from jsonb_to_recordset('[{"a":1}]') as x(a int)
select * from jsonb_each((select attrs from customers where id = 1)) e(k, v) order by k
select * from (values (1, 'one'), (2, 'two')) as t «(n, w)¦(n, w) where n = 1»
select * from (select 1) «x¦as x¦as x(a)¦x(a)»
select t.a from (select 1 as a) t
select * from customers t(a, b) where a = 1
select a from customers as t(a) where a = 2
select count(*) from customers tablesample «bernoulli (100)¦system (100)¦bernoulli (100) repeatable (1)»
select * from events where at «= '2024-01-05'¦between '2024-01-05' and '2024-01-07'» order by 1
select * from «parent¦only parent¦parent *¦child¦generated¦status_counts order by 1¦order_totals where id = 5¦vip order by id¦over_totals¦guarded¦with_domain»
select status, count(*), sum(total), avg(total), min(total), max(total) from orders group by status order by 1
select status, count(*) filter (where total > 50) from orders group by 1 having count(*) > «1¦(select 2)» order by 1
select status, placed_on, count(*) from orders group by «grouping sets ((status), (placed_on), ())¦rollup (status, placed_on)¦cube (status, placed_on)¦distinct rollup (status), rollup (placed_on)¦(status, placed_on)» order by 1, 2
select grouping(status), count(*) from orders group by rollup(status) order by 1, 2
select id, «row_number() over (order by id)¦rank() over (partition by status order by total)¦sum(total) over (order by id rows between unbounded preceding and current row)¦lag(total, 1, 0) over w¦first_value(id) over (order by id range between 1 preceding and 1 following)¦ntile(4) over (order by id groups between current row and 2 following exclude ties)¦sum(id) over (order by id rows (1 + 1) preceding)» from orders window w as (order by id) order by id limit 5
select percentile_cont(0.5) within group (order by total), mode() within group (order by status) from orders
select string_agg(name, ',' order by id), array_agg(distinct id % 3 order by id % 3), json_agg(id order by id), jsonb_object_agg(id, name) from customers where id < 4
select case «when id > 1 then 'a' else 'b' end¦id when 1 then 'one' when 2 then 'two' end» from customers where id < 3 order by id
select «coalesce(email, name)¦nullif(id, 1)¦greatest(id, 5)¦least(id, 5, 7)¦(id)¦((id + 1) * 2)¦not "Active"¦id is null¦id is not null¦"Active" is true¦id is distinct from 1¦id isnull¦id notnull» from customers where id = 1
select * from orders where «id in (1, 2)¦id not in (1, 2) and id < 5¦id = any (array[1, 2])¦id = any ('{1,2}')¦id <> all (array[1, 2]) and id < 4¦id = some (select 3)¦id in (select id from shop.orders)¦exists (select 1 from shop.orders s where s.id = orders.id)¦(id, status) in ((1, 'paid'))¦(id, status) = (1, 'paid')¦row(id) > row(199)» order by id
select * from customers where name «like 'Customer 1%'¦not like '%2%'¦ilike 'customer 3'¦similar to 'Customer (1|2)'¦~ '^Customer 4$'¦~* 'CUSTOMER 5$'¦!~ '[0-9]{2}'¦like 'C%!%' escape '!'¦= any (array['Customer 6'])¦>= 'Customer 59'¦between 'Customer 7' and 'Customer 8'¦between symmetric 'Customer 8' and 'Customer 7'¦like any (array['%1','%2'])» order by id
select id from customers order by «id¦id asc¦id desc nulls last¦balance using <¦1¦name collate "C"¦-id¦length(name), id¦case when id > 3 then 0 else 1 end, id» limit 4
select attrs «-> 'n'¦->> 'n'¦#> '{list,0}'¦#>> '{list,1}'¦@> '{"n": 1}'¦? 'vip'¦?| array['vip','x']¦?& array['vip','n']¦- 'vip'¦|| '{"z":1}'¦@? '$.n'¦@@ '$.n == 1'¦['list'][0]» from customers where id = 1
select tags «[1]¦[1:2]¦[:1]¦[1:]¦|| 'z'::text¦@> array['b']¦&& array['b','c']» from customers where id = 1
select (row(1, 'x')::pair).«a¦*»
select (array[1,2,3])[«2¦1:2¦(1 + 1)»]
select id::text, cast(id as varchar(10)), id::«bigint¦numeric(10,2)¦float8¦char(3)¦int2» from customers where id = 1
select '«{1,2}'::int[]¦[1,5)'::int4range¦10.0.0.1/8'::inet¦a=>b'::text¦happy'::mood¦(1,x)'::pair¦{"a":1}'::jsonb¦<a/>'::xml¦1 day 2 hours'::interval¦(1,2)'::point¦11111111-1111-1111-1111-111111111111'::uuid¦12'::positive¦a@b'::email¦customers'::regclass¦int4'::regtype¦(1,2),(3,4)'::box¦\xff'::bytea¦08:00:2b:01:02:03'::macaddr¦100'::money¦101'::bit(3)¦2024-01-01 10:00'::timestamp(0)¦2024-01-01 10:00+00'::timestamptz¦10:00'::time¦a b'::tsvector¦a & b'::tsquery»
select «int '1'¦pair '(1,x)'¦numeric '1.5'¦timestamp(3) '2024-01-01 10:00:00.1234'¦time with time zone '10:00+00'¦timestamp with time zone '2024-01-01 00:00+00'¦interval '1' day¦interval '1-2' year to month¦interval(3) '1.2345 seconds'¦double precision '1.5'¦character varying(3) 'abcd'¦bit varying(3) '101'¦national character(3) 'abc'¦float(4) '1.5'¦bit(3) '101'¦bool 't'»
select timestamptz '2024-01-01 00:00+00' at time zone «'UTC'¦('UTC')¦interval '1 hour'»
select «1 + 2¦5 - 3¦2 * 3¦7 / 2¦7 % 4¦2 ^ 3¦|/ 25.0¦||/ 27.0¦@ -5¦5 & 3¦5 | 3¦5 # 3¦~ 5¦1 << 2¦8 >> 1¦1 = 1¦1 <> 2¦1 != 2¦1 < 2¦1 >= 1¦'a' || 'b'¦1=-1¦1<-1¦1>=-1¦- - 1¦-(-1)¦+1¦5 operator(pg_catalog.+) 3¦1 <~> 5¦1 operator(public.<~>) 5¦- 5 operator(pg_catalog.*) 2»
select 'x' collate "C" < 'y', 'x' collate pg_catalog."default"
select «1 as insert¦1 as "update"¦1 "delete"¦1 as "into"¦p.insert from perms p¦insert, update, delete from perms¦"insert" from perms¦share from perms¦p.share, p.merge from perms p¦perms.update or perms.delete from perms¦count(update) from perms where delete¦* from perms where not update and not delete¦case when update then 1 else 0 end from perms¦max(merge) from perms where (insert or update)¦distinct insert, update from perms order by insert, update¦coalesce(update, delete) from perms»
select key, share from perms
select xmin::text::bigint > 0, ctid, tableoid::regclass, xmax::text from customers where id = 1
select c, c.*::text from customers c where id = 1
select orders from shop.orders order by id
select "id", "firstName", "order", "createdAt" from "users" where "users"."id" = 3
select u."firstName" from "users" as "u" where u."order" in (1, 2) order by u.id
select "Weird ""col", "from" from "Mixed Case"
select exists (select from customers where id = 1), array(select id from customers where id < 3 order by 1), (select count(*) from orders)
select count(*) from (select 1 union all select 2) u
select * from (select id, row_number() over () as rn from customers) x where rn = 1
select 1 where «false¦true¦null¦1 = 1 and not 2 = 1 or 3 is null»
select all id from customers where id = 1
select id, name into_name from customers where id = 1
select 1 limit 0
select (select (select (select max(id) from customers)))
select nullif(1, 1), nullif((select 1), 2)
select current_date is not null, current_timestamp is not null, localtime is not null, current_time(2) is not null, localtimestamp(3) is not null
select «current_user¦session_user¦user¦current_role¦current_catalog¦current_schema¦current_database()¦current_schema()¦current_schemas(false)»
select collation for ('x' collate "C")
select extract(«year¦month¦epoch¦dow¦'hour'¦isoyear» from timestamp '2024-03-04 05:06:07')
select position('b' in 'abc'), substring('abc' from 2), substring('abc' from 1 for 2), substring('abc' for 2), substring('abc' similar 'a#"b#"c' escape '#'), overlay('abc' placing 'x' from 2), overlay('abc' placing 'x' from 2 for 1), trim(both 'x' from 'xax'), trim(leading from ' a'), trim('x' from 'xa'), trim('a '), normalize('a', nfc), 'a' is nfc normalized
select xmlelement(name a, xmlattributes(1 as b), 'c'), xmlforest(1 as a), xmlconcat('<a/>', '<b/>'), xmlpi(name php), xmlserialize(content '<a/>' as text), xmlparse(document '<a/>'), xmlroot('<a/>', version '1.0'), xmlexists('//n' passing '<n/>'), xmlagg(x) from (values ('<a/>'::xml)) v(x)
select x.* from products, xmltable('/p' passing doc columns id int path '@id', n text path 'n') x where products.id = 3
select (timestamp '2024-01-01', interval '1 day') overlaps (timestamp '2024-01-01', timestamp '2024-01-02')
select pg_typeof(1), pg_typeof('a'::text)
select least(1, 2), greatest('a', 'b')
select to_char(timestamp '2024-01-01', 'YYYY'), date_trunc('month', timestamp '2024-02-03'), age(timestamp '2024-01-02', timestamp '2024-01-01'), date_part('day', date '2024-01-05'), make_date(2024, 1, 1), to_date('2024', 'YYYY'), to_timestamp(0) at time zone 'UTC', justify_days('40 days')
select to_tsvector('simple', 'a b') @@ to_tsquery('simple', 'a & b'), ts_rank(search, plainto_tsquery('simple', 'product')), ts_headline('simple', 'a b', 'a'::tsquery) from products where id = 1
select name from products where search @@ «'product'::tsquery¦to_tsquery('simple', 'number & 3')¦websearch_to_tsquery('simple', 'number 4')» order by id limit 2
select * from products where span «@> 5¦&& '[3,4)'¦<@ '[0,100)'¦-|- '[21,25)'» order by id limit 2
select ip «<< '10.0.0.0/24'¦>>= '10.0.0.1'¦+ 1¦& '255.0.0.0'», host(ip), network(ip), masklen(ip) from products where id = 2
select at <-> point '(0,0)', at << point '(5,5)', circle(at, 1), bits | b'00000001', bits & b'11111111', encode(raw, 'hex'), uid, iv * 2 from products where id = 1
select 'a'::"char", 1::oid, 'pg_class'::regclass::oid, 'now'::text
explain «select 1¦(costs off) select * from customers¦verbose select 1¦(verbose, costs off, format json) select 1¦(format yaml) table customers¦(costs off) values (1)¦(costs off) with a as (select 1) select * from a¦(analyze false, costs off) select 1¦(analyze off) select 1»
copy «customers¦customers (id, name)¦public.customers¦"users" ("id")¦(select 1)¦(select * from customers order by id)¦(table shop.orders)¦(values (1))¦(with a as (select 1) select * from a)» to stdout «¦with (format csv)¦csv header¦(delimiter ';', null 'x')¦with (format binary)»
copy binary customers to stdout
show «server_version¦server_version_num¦server_encoding¦client_encoding¦datestyle¦timezone¦time zone¦search_path¦standard_conforming_strings¦application_name¦integer_datetimes¦intervalstyle¦lc_collate¦bytea_output¦extra_float_digits¦is_superuser¦session_authorization¦role¦work_mem¦statement_timeout»
select current_setting('«server_version¦search_path¦timezone»')
select current_setting('server_version_num')::int / 10000 >= 15
select 1; select 2
"select 1;\n\nselect 2 ;"
;select 1;
;;
"-- nothing at all\n"
/* nothing */
#: either
begin; select 1; commit
begin
commit
rollback
