# What drivers, ORMs and tools send.
#: read
SELECT abalance FROM pgbench_accounts WHERE aid = 7
SELECT customers.id AS customers_id, customers.name AS customers_name, customers."Active" AS "customers_Active" FROM customers WHERE customers.id = 5
SELECT customers.id AS customers_id, orders_1.id AS orders_1_id, orders_1.total AS orders_1_total FROM customers LEFT OUTER JOIN orders AS orders_1 ON customers.id = orders_1.customer_id WHERE customers.name LIKE '%1' || '%' ORDER BY customers.id, orders_1.id LIMIT 10 OFFSET 0
SELECT anon_1.customers_id FROM (SELECT customers.id AS customers_id FROM customers WHERE customers.id IN (1, 2, 3)) AS anon_1 ORDER BY 1
"SELECT count(*) AS count_1 \nFROM (SELECT orders.id AS orders_id \nFROM orders \nWHERE orders.status = 'paid') AS anon_1"
SELECT EXISTS (SELECT 1 FROM customers WHERE customers.email = 'c1@example.org') AS anon_1
select pg_catalog.version()
select current_schema()
show standard_conforming_strings
SELECT CAST('test plain returns' AS VARCHAR(60)) AS anon_1
SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'customers' AND pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog'
select c1_0.id,c1_0.name,c1_0.email from customers c1_0 where c1_0.id=3
select o1_0.id,c1_0.id,c1_0.name,o1_0.total from orders o1_0 left join customers c1_0 on c1_0.id=o1_0.customer_id where o1_0.status='paid' order by o1_0.id fetch first 5 rows only
select o1_0.status,count(o1_0.id) from orders o1_0 group by o1_0.status having count(o1_0.id)>1 order by 1 offset 0 rows fetch first 10 rows only
select distinct c1_0.id from customers c1_0 where upper(c1_0.name) like upper('customer 1%') escape '' order by 1
/* select c from Customer c where c.id = :id */ select c1_0.id,c1_0.name from customers c1_0 where c1_0.id=1
SELECT "customers"."id", "customers"."name", "customers"."email" FROM "customers" WHERE "customers"."id" = 1 LIMIT 21
SELECT "customers"."id" FROM "customers" INNER JOIN "orders" ON ("customers"."id" = "orders"."customer_id") WHERE ("orders"."status" = 'paid' AND UPPER("customers"."name"::text) LIKE UPPER('%1%')) ORDER BY "customers"."id" ASC LIMIT 3
SELECT COUNT(*) AS "__count" FROM "customers" WHERE NOT ("customers"."Active")
SELECT (1) AS "a" FROM "customers" WHERE "customers"."id" = 1 LIMIT 1
SELECT "orders"."status", COUNT("orders"."id") AS "n", SUM("orders"."total") AS "total__sum" FROM "orders" GROUP BY "orders"."status" HAVING COUNT("orders"."id") > 3 ORDER BY "orders"."status" DESC
SELECT DATE_TRUNC('month', "orders"."placed_on") AS "m", COALESCE(SUM("orders"."total"), 0) FROM "orders" GROUP BY 1 ORDER BY 1
SELECT EXTRACT('year' FROM "orders"."placed_on") AS "y" FROM "orders" WHERE "orders"."placed_on" BETWEEN '2024-01-01'::date AND '2024-12-31'::date ORDER BY 1 LIMIT 1
SELECT "users"."id", "users"."firstName", "users"."order" FROM "users" WHERE "users"."firstName" = 'First3'
SELECT "users".* FROM "users" WHERE "users"."id" = 1 LIMIT 1
SELECT 1 AS one FROM "users" WHERE "users"."firstName" = 'First1' LIMIT 1 /*application='shop'*/
SELECT COUNT(*) FROM "orders" WHERE "orders"."customer_id" = 4 AND ("orders"."status" IN ('new', 'paid') OR "orders"."note" IS NULL)
SELECT "customers"."id" AS t0_r0, "customers"."name" AS t0_r1, "orders"."id" AS t1_r0 FROM "customers" LEFT OUTER JOIN "orders" ON "orders"."customer_id" = "customers"."id" WHERE "customers"."id" IN (1, 2) ORDER BY "customers"."id", "orders"."id"
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"users"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4') order by 1
SELECT "public"."users"."id", "public"."users"."firstName" FROM "public"."users" WHERE ("public"."users"."id" = 1 AND 1=1) LIMIT 1 OFFSET 0
SELECT "public"."orders"."id", "public"."orders"."status"::text FROM "public"."orders" WHERE "public"."orders"."customer_id" IN (1,2,3) ORDER BY "public"."orders"."id" ASC OFFSET 0
SELECT COUNT(*) FROM (SELECT "public"."users"."id" FROM "public"."users" WHERE 1=1 OFFSET 0) AS "sub"
SELECT "t0"."id", COALESCE("t0_orders"."__prisma_data__", '[]'::jsonb) AS "orders" FROM "public"."customers" AS "t0" LEFT JOIN LATERAL (SELECT JSONB_AGG("__prisma_data__") AS "__prisma_data__" FROM (SELECT "t1"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t0"."id") AS "__prisma_data__") AS "t1") AS "t2") AS "t0_orders" ON TRUE WHERE "t0"."id" = 1 LIMIT 1
SELECT * FROM "users" WHERE "users"."id" = 3 ORDER BY "users"."id" LIMIT 1
SELECT count(*) FROM "orders" WHERE status <> 'sent' AND "orders"."id" > 5
SELECT CURRENT_DATABASE()
SELECT count(*) FROM information_schema.tables WHERE table_schema = CURRENT_SCHEMA() AND table_name = 'users' AND table_type = 'BASE TABLE'
SELECT "id", "firstName", "order", "createdAt" FROM "users" AS "User" WHERE "User"."id" = 1;
SELECT "User"."id", "Orders"."id" AS "Orders.id" FROM "users" AS "User" LEFT OUTER JOIN "orders" AS "Orders" ON "User"."id" = "Orders"."customer_id" WHERE "User"."firstName" ILIKE '%first1%' ORDER BY "User"."id", "Orders"."id";
SELECT count(*) AS "count" FROM "users" AS "User" WHERE "User"."order" = 3;
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey[:ix.indnkeyatts-1] AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'users' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey, ix.indnkeyatts ORDER BY i.relname
SELECT t.typname, t.oid FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid GROUP BY t.typname, t.oid ORDER BY 1
select t.oid, t.typname, t.typarray, t.typelem, (select array_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid) from pg_type t where t.oid = 'mood'::regtype
SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN 'SYSTEM' ELSE 'TABLE' END AS TABLE_TYPE, d.description AS REMARKS FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND n.nspname = 'public' AND c.relname LIKE 'o%' ORDER BY TABLE_TYPE, TABLE_SCHEM, TABLE_NAME
SELECT result.TABLE_CAT, result.COLUMN_NAME, result.KEY_SEQ FROM (SELECT NULL AS TABLE_CAT, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, information_schema._pg_expandarray(i.indkey) AS keys, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) WHERE i.indisprimary AND ct.relname = 'items') result where result.A_ATTNUM = (result.keys).x order by 3
select n.nspname, t.typname from pg_catalog.pg_type t join pg_namespace n on n.oid = t.typnamespace where t.oid = 23
SELECT c.oid::regclass::text, pg_catalog.pg_get_partkeydef(c.oid) FROM pg_class c WHERE c.relkind = 'p' ORDER BY 1
WITH RECURSIVE category_tree AS (SELECT id, parent_id, 0 AS depth FROM customers WHERE parent_id IS NULL UNION ALL SELECT c.id, c.parent_id, ct.depth + 1 FROM customers c INNER JOIN category_tree ct ON c.parent_id = ct.id) SELECT depth, count(*) FROM category_tree GROUP BY depth ORDER BY depth
SELECT o.id, o.total, jsonb_agg(jsonb_build_object('line', i.line, 'qty', i.qty) ORDER BY i.line) AS lines FROM orders o JOIN items i ON i.order_id = o.id WHERE o.customer_id = 5 AND o.placed_on > date '2024-01-10' - interval '1 day' GROUP BY o.id, o.total ORDER BY o.id LIMIT 20
SELECT date_trunc('week', placed_on)::date AS week, status, sum(total) AS revenue, lag(sum(total)) OVER (PARTITION BY status ORDER BY date_trunc('week', placed_on)) AS before FROM orders GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 10
SELECT c.id, c.name FROM customers c WHERE c.attrs @> '{"vip": true}'::jsonb AND 'a1' = ANY(c.tags) ORDER BY c.created_at DESC LIMIT 5
SELECT SUM(CASE WHEN status = 'paid' THEN total ELSE 0 END) AS paid, COUNT(DISTINCT customer_id) AS buyers FROM orders
#: primary
SELECT "orders"."id" FROM "orders" WHERE "orders"."id" = 1 FOR UPDATE
SELECT orders.id FROM orders WHERE orders.id = 1 FOR NO KEY UPDATE SKIP LOCKED
select o1_0.id from orders o1_0 where o1_0.id=1 for no key update of o1_0
SELECT "orders"."id" FROM "orders" WHERE "orders"."id" = 1 LIMIT 1 FOR UPDATE OF "orders"
INSERT INTO "orders" ("id", "status") VALUES (9009, 'x') RETURNING "orders"."id"
UPDATE "orders" SET "status" = 'y' WHERE "orders"."id" = 9009
DELETE FROM "orders" WHERE "orders"."id" IN (9009)
select nextval('counter')
SAVEPOINT active_record_1
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, 1, CURRENT_TIMESTAMP)
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1
SELECT pg_try_advisory_xact_lock(1574263, 0)
#: either
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1; COMMIT
#: primary
SELECT pg_database_size('app')
