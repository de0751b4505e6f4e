-- Who sees which row. The sub-select makes PostgreSQL check the claim once a query, not once a row.
set local role rowgate_owner;

do $$
declare
    protected regclass;
begin
    for protected in
        select oid from pg_class where relnamespace = 'retail'::regnamespace and relkind = 'r'
    loop
        execute format('alter table %s enable row level security', protected);
        execute format('alter table %s force row level security', protected);
        execute format('revoke all on %s from public', protected);
        execute format('grant select on %s to rowgate_reader', protected);
        -- FORCE subjects the owner to policies too, and the owner loads the data.
        execute format('create policy maintenance on %s to rowgate_owner using (true) with check (true)', protected);
    end loop;

    foreach protected in array array[
        'retail.stores', 'retail.categories', 'retail.product_types', 'retail.products',
        'retail.product_description_embeddings'
    ]::regclass[]
    loop
        execute format(
            'create policy known_caller on %s for select to rowgate_reader
                using ((select rowgate.visible_stores()) is not null)', protected);
    end loop;

    foreach protected in array array['retail.inventory', 'retail.orders', 'retail.order_items']::regclass[]
    loop
        execute format(
            'create policy own_store on %s for select to rowgate_reader
                using (store_id = any ((select rowgate.visible_stores())::integer[]))', protected);
    end loop;
end
$$;

-- The orders that this sub-select sees are the caller's own already.
create policy own_store_or_order on retail.customers for select to rowgate_reader
    using (
        primary_store_id = any ((select rowgate.visible_stores())::integer[])
        or exists (select from retail.orders where orders.customer_id = customers.customer_id)
    );

grant usage on schema retail to rowgate_reader;

reset role;
