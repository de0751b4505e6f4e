-- A table of sales in three years, at eight stores: :rows of them in retail.:name. As a superuser.
begin;
set local role rowgate_owner;
create table retail.:"name" (
    sale_id integer not null,
    store_id integer not null,
    sold_on date not null,
    product text not null,
    quantity integer not null,
    unit_price numeric(10, 2) not null,
    discount numeric(10, 2) not null,
    total numeric(10, 2) not null
);
insert into retail.:"name"
select n, 1 + n % 8, date '2023-01-01' + (n * 7919::bigint % 1097)::integer, p.product_name, 1 + n % 5, p.base_price,
       round(p.base_price * (n % 4) / 20, 2), round(p.base_price * (1 + n % 5) - p.base_price * (n % 4) / 20, 2)
  from generate_series(1, :rows) n
  join (select row_number() over (order by product_id) - 1 as place, count(*) over () as many, * from retail.products) p
    on p.place = n % p.many;
alter table retail.:"name" add primary key (sale_id);
create index on retail.:"name" (store_id, sold_on);
alter table retail.:"name" enable row level security;
alter table retail.:"name" force row level security;
create policy maintenance on retail.:"name" to rowgate_owner using (true) with check (true);
create policy own_store on retail.:"name" for select to rowgate_reader
    using (store_id = any ((select rowgate.visible_stores())::integer[]));
revoke all on retail.:"name" from public;
grant select on retail.:"name" to rowgate_reader;
commit;
vacuum analyze;
