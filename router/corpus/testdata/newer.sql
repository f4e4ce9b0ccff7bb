# Syntax and functions of PostgreSQL 16 to 18: errors of a parser or of an unknown function on 15, the same everywhere.
#: read
select 0x1F, 0o17, 0b101, 1_000
select json_array(1, 2), json_object('a': 1), json_arrayagg(id), json_objectagg('a': id) from customers
select any_value(id) from customers
select * from json_table('[{"a":1}]', '$[*]' columns (a int path '$.a', nested path '$.b' columns (c int))) as t
select json_exists('{}', '$'), json_value('{}', '$'), json_query('{}', '$'), json_scalar(1), json_serialize('{}'), '{}' is json object
select now() at local
select random(1, 10), random_normal(), array_shuffle(array[1]), array_sample(array[1,2], 1), uuidv7() is not null, uuidv4() is not null
select * from customers where id = 1 order by id fetch first 1 rows with ties
select * from (select 1)
select count(*) from customers group by all
select to_bin(5), to_oct(5), unicode_assigned('a'), casefold('A'), array_sort(array[2,1]), array_reverse(array[1,2]), gamma(5), lgamma(5), crc32('a'), crc32c('a'), erf(1)
explain (costs off, memory, serialize none) select 1
#: primary
merge into shop.orders o using (values (1)) v(id) on o.id = v.id when not matched by source then delete
with a as (merge into shop.orders o using (values (1)) v(id) on o.id = v.id when matched then update set total = 1 returning merge_action()) select * from a
update shop.orders set total = 1 returning old.total, new.total
