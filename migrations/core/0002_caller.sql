-- Who may ask, and what of: the tenants, the principals, the keys that sign a claim, and the function that checks one.
-- Nothing here is granted to a role that runs a caller's SQL, except execution of visible_stores() from inside policies.
set local role rowgate_owner;

create table rowgate.stores (
    store_id integer primary key
);
comment on table rowgate.stores is 'the tenants that exist';

create table rowgate.principals (
    principal text primary key check (principal ~ '^[A-Za-z0-9][A-Za-z0-9:_-]{0,127}$'),
    display_name text not null,
    all_stores boolean not null default false
);
comment on table rowgate.principals is 'who may ask; all_stores sees every row of rowgate.stores';

create table rowgate.principal_stores (
    principal text not null references rowgate.principals on delete cascade,
    store_id integer not null references rowgate.stores on delete cascade,
    primary key (principal, store_id)
);
comment on table rowgate.principal_stores is 'which tenants a principal sees, unless it sees all';

create table rowgate.claim_keys (
    key_id text primary key check (key_id ~ '^[A-Za-z0-9_-]{1,32}$'),
    inner_pad bytea not null check (length(inner_pad) = 64),
    outer_pad bytea not null check (length(outer_pad) = 64),
    added_at timestamptz not null default now()
);
comment on table rowgate.claim_keys is 'the keys a claim may be signed with, as the two padded blocks of RFC 2104';

revoke all on rowgate.stores, rowgate.principals, rowgate.principal_stores, rowgate.claim_keys from public;

-- The tenants that the claim of this transaction may see. Raises rather than answer nothing, so that a caller
-- whose claim has run out never takes an empty result for the truth.
-- Claim: v1.<key id>.<principal>.<expires, seconds since 1970>.<nonce>.<HMAC-SHA-256 of all before it, hexadecimal>
create function rowgate.visible_stores() returns integer[]
    language plpgsql stable parallel safe security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    claim text := current_setting('rowgate.claim', true);
    part text[] := string_to_array(claim, '.');
    signing record;
    asker record;
begin
    if cardinality(part) is distinct from 6 or part[1] <> 'v1' then
        raise exception 'no caller: this transaction carries no claim' using errcode = 'RG002';
    end if;

    select inner_pad, outer_pad into signing from rowgate.claim_keys where key_id = part[2];
    if not found then
        raise exception 'the claim is signed with a key that this database does not know' using errcode = 'RG004';
    end if;

    -- Comparing digests of the two signatures keeps the time it takes from telling how much of a guess was right.
    if sha256(sha256(signing.outer_pad || sha256(signing.inner_pad
            || convert_to(left(claim, -1 - length(part[6])), 'UTF8'))))
        is distinct from sha256(case when part[6] ~ '^[0-9a-f]{64}$' then decode(part[6], 'hex') end) then
        raise exception 'the signature of the claim is wrong' using errcode = 'RG002';
    end if;

    if part[4]::bigint < extract(epoch from statement_timestamp()) then
        raise exception 'the claim has expired' using errcode = 'RG003';
    end if;

    select all_stores into asker from rowgate.principals where principal = part[3];
    if not found then
        raise exception 'unknown caller' using errcode = 'RG001';
    end if;
    if asker.all_stores then
        return array(select store_id from rowgate.stores);
    end if;
    return array(select store_id from rowgate.principal_stores where principal = part[3]);
end
$$;

-- Called once at the start of a caller's transaction, by the login role, before it turns into the reader.
create function rowgate.admit(claim text) returns void
    language plpgsql volatile security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('rowgate.claim', claim, true);
    perform rowgate.visible_stores();
end
$$;

revoke all on function rowgate.visible_stores() from public;
revoke all on function rowgate.admit(text) from public;
grant execute on function rowgate.visible_stores() to rowgate_reader;
grant usage on schema rowgate to rowgate_app;
grant execute on function rowgate.admit(text) to rowgate_app;

reset role;
