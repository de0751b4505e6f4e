-- The three roles. Run by an administrator who may be no superuser: CREATEROLE and CREATE on the database are enough.
-- Roles belong to the server, not to one database, so another database may have made them already.
do $$
declare
    wanted record;
begin
    for wanted in
        select * from (values
            ('rowgate_owner', 'create role rowgate_owner nologin noinherit'),
            ('rowgate_reader', 'create role rowgate_reader nologin noinherit'),
            ('rowgate_app', 'create role rowgate_app login noinherit')
        ) as roles (name, statement)
    loop
        begin
            if not exists (select from pg_roles where rolname = wanted.name) then
                execute wanted.statement;
            end if;
        exception
            when duplicate_object or unique_violation then null;
        end;

        if exists (select from pg_roles where rolname = wanted.name and (rolsuper or rolbypassrls)) then
            raise exception 'role % is a superuser or has BYPASSRLS, so row-level security would not hold', wanted.name
                using errcode = 'RG010', hint = format('alter role %I nosuperuser nobypassrls', wanted.name);
        end if;
    end loop;

    -- PostgreSQL 16 gives the creator of a role the right to grant it, not the right to act as it.
    if not pg_has_role(current_user, 'rowgate_owner', 'usage') then
        execute format('grant rowgate_owner to %I', current_user);
    end if;
    if not pg_has_role('rowgate_app', 'rowgate_reader', 'member') then
        grant rowgate_reader to rowgate_app;
    end if;
end
$$;

create schema rowgate authorization rowgate_owner;

create table rowgate.migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table rowgate.migrations is 'which migrations have run, with the SHA-256 of their text';
alter table rowgate.migrations owner to rowgate_owner;
