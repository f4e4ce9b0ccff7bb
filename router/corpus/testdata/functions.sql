# Functions of users that are what they are declared to be, and all kinds of objects that use them.
#: read
select «price(2)¦public.price(2)¦PRICE(2)¦"price"(2)¦"public"."price"(2)¦shop.price(2)¦shop.price(2, 5)¦shop.price($$2$$::int)¦price (2)¦pick(1, 2, 3)¦pick(variadic array[4, 5])¦"Quoted Fn"(1)¦public."Quoted Fn"(1)¦product_of(id) from customers where id < 5¦pl_total(3)¦modern(1)¦absdiff(1, 5)¦price(price(price(1)))¦price(a => 1)»
select * from «orders_of(3) order by id¦orders_of(3) as o(a, b) order by a¦orders_of(3) o order by o.id limit 1¦lateral orders_of(2) order by id¦customers c, orders_of(c.id) o where c.id = 2 order by o.id»
select «c.full_name¦full_name(c)¦(c).full_name» from customers c where id = 1
select * from order_totals o join over_totals t on true where o.id = 3
select id from customers where «price(id) = 4¦id = price(1)¦id in (select price(1))¦id <~> 5 = 1» order by price(id)
select * from (select price(id) p from customers where id < 3) x order by p
with x as (select price(1)) select * from x
copy (select price(id) from customers where id < 3 order by id) to stdout
explain (costs off) select price(1)
select 'x@y'::email, '5'::positive, '(1,a)'::pair, 'ok'::mood
select array_agg(price(id) order by price(id)) from customers where id < 4
select id, price(id) over_price from customers where id = 1
select lower('ABC'), pg_catalog.lower('ABC'), "lower"('ABC'), pg_catalog."lower"('ABC'), LOWER('ABC')
select upper('a'), initcap('ab'), length('abc'), char_length('abc'), octet_length('a'), bit_length('a'), md5('a'), sha256('a'), reverse('ab'), repeat('a', 2), lpad('a', 3), rpad('a', 3, 'x'), ltrim(' a'), rtrim('a '), btrim(' a '), left('abc', 2), right('abc', 2), replace('abc', 'b', 'x'), split_part('a,b', ',', 1), strpos('abc', 'b'), translate('abc', 'a', 'x'), concat('a', 1), concat_ws(',', 'a', 'b'), format('%s-%I', 'a', 'b'), quote_ident('a b'), quote_literal('a'), quote_nullable(null), chr(65), ascii('A'), to_hex(255), regexp_replace('abc', 'b', 'x', 'g'), regexp_match('abc', 'b'), regexp_split_to_array('a b', ' '), starts_with('abc', 'a'), string_to_array('a,b', ','), array_to_string(array[1,2], ','), encode('a', 'base64'), decode('YQ==', 'base64')
select "left"('abc', 1), pg_catalog."left"('abc', 1), pg_catalog.left('abc', 1), "right"('abc', 1), pg_catalog."position"('a', 'b'), pg_catalog."substring"('abc', 2), pg_catalog."overlay"('abc', 'x', 2), "float8"(1), "numeric"(1), pg_catalog."extract"('year', date '2024-01-01')
select abs(-1), ceil(1.5), floor(1.5), round(1.567, 2), trunc(1.5), sign(-1), sqrt(4), cbrt(8), power(2, 3), exp(0), ln(1), log(10), mod(7, 4), div(7, 2), pi() > 3, radians(180) > 3, sin(0), gcd(4, 6), lcm(4, 6), factorial(4), width_bucket(5, 1, 10, 3), scale(1.5), degrees(0)
select random() is not null, gen_random_uuid() is not null, clock_timestamp() is not null, statement_timestamp() is not null, transaction_timestamp() is not null, now() is not null, timeofday() is not null, pg_sleep(0)
select jsonb_build_object('a', 1), json_build_array(1, 2), to_json(1), to_jsonb('a'::text), row_to_json(row(1)), json_object('{a,1}'), jsonb_set('{}', '{a}', '1'), jsonb_insert('{"a":[1]}', '{a,0}', '0'), jsonb_pretty('{}'), jsonb_strip_nulls('{}'), jsonb_array_length('[1]'), jsonb_typeof('1'), jsonb_path_query_array('[1,2]', '$[*]'), jsonb_path_exists('[1]', '$[0]'), jsonb_extract_path_text('{"a":"b"}', 'a')
select array_length(array[1], 1), cardinality(array[1]), array_append(array[1], 2), array_cat(array[1], array[2]), array_position(array[1,2], 2), array_remove(array[1], 1), array_upper(array[1], 1), array_ndims(array[1]), unnest(array[1])
select has_table_privilege('customers', 'select'), has_schema_privilege('public', 'usage'), pg_has_role('pg_monitor', 'member'), has_column_privilege('customers', 'id', 'select'), has_database_privilege(current_database(), 'connect'), has_function_privilege('price(int)', 'execute')
select pg_get_viewdef('order_totals'), pg_get_functiondef('price(int)'::regprocedure), pg_get_indexdef('customers_pkey'::regclass), pg_get_constraintdef(oid) from pg_constraint where conname = 'customers_pkey'
select format_type(23, null), obj_description('customers'::regclass), col_description('customers'::regclass, 1), to_regclass('customers'), to_regtype('int4'), pg_table_is_visible('customers'::regclass), pg_get_userbyid(10), pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = 'products'::regclass
select pg_column_size(1), pg_client_encoding(), version(), pg_encoding_to_char(6), getdatabaseencoding(), pg_get_serial_sequence('products', 'id'), pg_size_pretty(1024::bigint), pg_size_bytes('1 kB')
#: either
select overloaded(1)
select volatile_fn(1)
