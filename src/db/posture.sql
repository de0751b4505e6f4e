with roles as (
    select r.rolname as name, r.rolsuper, r.rolbypassrls, r.oid
      from pg_catalog.pg_roles r
     where r.rolname in (session_user, 'rowgate_reader', 'rowgate_owner')
),
others as (
    select c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relowner, c.reloptions,
           format('%I.%I', n.nspname, c.relname) as name
      from pg_catalog.pg_class c
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f')
       and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\_%'
       and not exists (
           select from pg_catalog.pg_depend d
            where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
),
exposed as (
    select * from others where pg_catalog.has_any_column_privilege('rowgate_reader', oid, 'select')
),
functions (name, body, config) as (values
    ('rowgate.admit(text)', $1, array['search_path=pg_catalog, pg_temp']),
    ('rowgate.visible_stores()', $2, array['search_path=pg_catalog, pg_temp', 'plan_cache_mode=force_generic_plan']))
select format('the role %I is a superuser', name), format('alter role %I nosuperuser', name)
  from roles where rolsuper
union all
select format('the role %I has BYPASSRLS', name), format('alter role %I nobypassrls', name)
  from roles where rolbypassrls
union all
select format('%I may act as the tables'' owner', name), format('revoke rowgate_owner from %I', name)
  from roles
 where name <> 'rowgate_owner' and pg_catalog.pg_has_role(oid, 'rowgate_owner', 'member')
union all
select format('%s belongs to %I', o.name, r.name), format('alter table %s owner to rowgate_owner', o.name)
  from others o join roles r on r.oid = o.relowner where r.name <> 'rowgate_owner'
union all
select format('%I may write to %s', r.name, o.name), format('revoke all on %s from %I, public', o.name, r.name)
  from others o cross join roles r
 where r.name <> 'rowgate_owner' and not r.rolsuper and o.relowner <> r.oid
   and (pg_catalog.has_table_privilege(r.oid, o.oid, 'insert, update, delete, truncate')
        or pg_catalog.has_any_column_privilege(r.oid, o.oid, 'insert, update'))
union all
select format('%s has no row-level security that binds its owner too', name),
       format('alter table %s enable row level security; alter table %1$s force row level security', name)
  from exposed where relkind in ('r', 'p') and not (relrowsecurity and relforcerowsecurity)
union all
select format('%s can be read, and no policy says by whom', e.name), format('revoke select on %s from rowgate_reader, public', e.name)
  from exposed e
 where e.relkind in ('r', 'p') and not exists (
       select from pg_catalog.pg_policy p
        where p.polrelid = e.oid and p.polcmd in ('r', '*')
          and (p.polroles = '{0}' or 'rowgate_reader'::regrole = any (p.polroles)))
union all
select format('the view %s shows what its owner may see', name), format('alter view %s set (security_invoker = true)', name)
  from exposed
 where relkind = 'v' and not coalesce(reloptions && array['security_invoker=true', 'security_invoker=on'], false)
union all
select format('%s can be read and can have no row-level security', name), format('revoke select on %s from rowgate_reader, public', name)
  from exposed where relkind in ('m', 'f')
union all
select format('the function %s is not the one that was migrated', f.name), 'rowgate migrate, after undoing what was done to it'
  from functions f
  left join pg_catalog.pg_proc p on p.oid = to_regprocedure(f.name)
 where p.oid is null or p.prosrc <> f.body or not p.prosecdef
    or p.proowner <> 'rowgate_owner'::regrole
    or p.proconfig is distinct from f.config
