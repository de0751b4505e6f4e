with recursive exposed as (
    select c.oid, format('%I.%I', n.nspname, c.relname) as name
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p')
       and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_%'
       and pg_catalog.has_any_column_privilege('rowgate_reader', c.oid, 'select')
       and not exists (
           select from pg_catalog.pg_depend d
            where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
),
policies as (
    select p.oid, p.polrelid, p.polname, p.polpermissive,
           pg_catalog.pg_get_expr(p.polqual, p.polrelid) as condition
      from pg_catalog.pg_policy p
     where p.polcmd in ('r', '*')
       and (p.polroles = '{0}' or exists (
           select from unnest(p.polroles) named (role)
            where pg_catalog.pg_has_role('rowgate_reader', named.role, 'usage')))
),
-- What a policy depends on, as PostgreSQL itself keeps it: functions that it calls, tables that its sub-selects read.
asking as (
    select p.oid
      from policies p
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_policy'::regclass and d.objid = p.oid
     where d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid = to_regprocedure('rowgate.visible_stores()')
       and p.condition like '%visible\_stores()%'
    union
    select p.oid
      from asking a
      join policies asked on asked.oid = a.oid
      join pg_catalog.pg_depend d
        on d.classid = 'pg_catalog.pg_policy'::regclass
       and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = asked.polrelid
      join policies p on p.oid = d.objid
     where p.polrelid <> asked.polrelid
)
select e.name, count(p.oid),
       -- A restrictive policy binds what all others let through.
       case when coalesce(bool_or(a.oid is not null and not p.polpermissive), false) then '{}'
            else coalesce(
                array_agg(quote_ident(p.polname) order by p.polname) filter (where p.polpermissive and a.oid is null),
                '{}')
       end
  from exposed e
  left join policies p on p.polrelid = e.oid
  left join asking a on a.oid = p.oid
 group by e.name
 order by e.name
