-- The table that all servers are asked about: 100,000 sales in three years, at eight stores. As a superuser.
begin;
set local role rowgate_owner;
create table retail.sales (
    sale_id integer primary key,
    store_id integer not null,
    sold_on date not null,
    product text not null,
    quantity integer not null,
    unit_price numeric(10, 2) not null,
    discount numeric(10, 2) not null,
    total numeric(10, 2) not null
);
insert into retail.sales
select n, 1 + n % 8, date '2023-01-01' + n * 7919 % 1097, p.product_name, 1 + n % 5, p.base_price,
       round(p.base_price * (n % 4) / 20, 2), round(p.base_price * (1 + n % 5) - p.base_price * (n % 4) / 20, 2)
  from generate_series(1, 100000) n
  join (select row_number() over (order by product_id) - 1 as place, count(*) over () as many, * from retail.products) p
    on p.place = n % p.many;
create index on retail.sales (store_id, sold_on);
alter table retail.sales enable row level security;
alter table retail.sales force row level security;
create policy maintenance on retail.sales to rowgate_owner using (true) with check (true);
create policy own_store on retail.sales for select to rowgate_reader
    using (store_id = any ((select rowgate.visible_stores())::integer[]));
revoke all on retail.sales from public;
grant select on retail.sales to rowgate_reader;
commit;
vacuum analyze;
