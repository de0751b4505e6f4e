-- A caller may be several principals at once (itself, its groups, its roles), and may have been proved by a token that
-- can be revoked. Who changed what of this is kept.
set local role rowgate_owner;

create table rowgate.tokens (
    token_id text primary key check (token_id ~ '^[0-9a-f]{16}$'),
    principal text not null references rowgate.principals on delete cascade,
    issued_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz
);
comment on table rowgate.tokens is 'the tokens that were issued; one that is not here, or is revoked, sees nothing';
create index tokens_principal on rowgate.tokens (principal);

create table rowgate.changes (
    change_id bigint generated always as identity primary key,
    changed_at timestamptz not null default now(),
    changed_by text not null default session_user,
    subject text not null,
    action text not null check (action in ('insert', 'update', 'delete')),
    before jsonb,
    after jsonb
);
comment on table rowgate.changes is 'who changed which principal, store, token or key, and how; keys without their secret';

create function rowgate.note_change() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into rowgate.changes (subject, action, before, after)
    values (
        tg_table_name,
        lower(tg_op),
        case when tg_op <> 'INSERT' then to_jsonb(old) - array['inner_pad', 'outer_pad'] end,
        case when tg_op <> 'DELETE' then to_jsonb(new) - array['inner_pad', 'outer_pad'] end
    );
    return null;
end
$$;

do $$
declare
    watched text;
begin
    foreach watched in array array['stores', 'principals', 'principal_stores', 'tokens', 'claim_keys'] loop
        execute format(
            'create trigger note_change after insert or update or delete on rowgate.%I
                for each row execute function rowgate.note_change()', watched);
    end loop;
end
$$;

revoke all on rowgate.tokens, rowgate.changes from public;
revoke all on function rowgate.note_change() from public;

-- Claim: v2.<key id>.<principals, separated by commas>.<token id or ->.<expires, seconds since 1970>.<nonce>
--        .<HMAC-SHA-256 of all before it, hexadecimal>
create or replace function rowgate.visible_stores() returns integer[]
    language plpgsql stable parallel safe security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    claim text := current_setting('rowgate.claim', true);
    part text[] := string_to_array(claim, '.');
    asking text[];
    signing record;
    asker record;
begin
    if cardinality(part) is distinct from 7 or part[1] <> 'v2' then
        raise exception 'no caller: this transaction carries no claim' using errcode = 'RG002';
    end if;

    select inner_pad, outer_pad into signing from rowgate.claim_keys where key_id = part[2];
    if not found then
        raise exception 'the claim is signed with a key that this database does not know' using errcode = 'RG004';
    end if;

    -- Comparing digests of the two signatures keeps the time it takes from telling how much of a guess was right.
    if sha256(sha256(signing.outer_pad || sha256(signing.inner_pad
            || convert_to(left(claim, -1 - length(part[7])), 'UTF8'))))
        is distinct from sha256(case when part[7] ~ '^[0-9a-f]{64}$' then decode(part[7], 'hex') end) then
        raise exception 'the signature of the claim is wrong' using errcode = 'RG002';
    end if;

    if part[5]::bigint < extract(epoch from statement_timestamp()) then
        raise exception 'the claim has expired' using errcode = 'RG003';
    end if;

    asking := string_to_array(part[3], ',');
    if part[4] <> '-' and not exists (
        select from rowgate.tokens
         where token_id = part[4] and principal = asking[1] and revoked_at is null
           and expires_at > statement_timestamp()
    ) then
        raise exception 'the token was revoked' using errcode = 'RG005';
    end if;

    select bool_or(all_stores) as all_stores into asker from rowgate.principals where principal = any (asking);
    if asker.all_stores is null then
        raise exception 'unknown caller' using errcode = 'RG001';
    end if;
    if asker.all_stores then
        return array(select store_id from rowgate.stores);
    end if;
    return array(select distinct store_id from rowgate.principal_stores where principal = any (asking));
end
$$;

reset role;
