-- The same check of a claim, whose hexadecimal digits are looked at without a regular expression: PostgreSQL builds the
-- automaton of one anew in every session and call, which took a tenth of the check.
set local role rowgate_owner;

-- Claim: v2.<key id>.<principals, separated by commas>.<token id or ->.<expires, seconds since 1970>.<nonce>
--        .<HMAC-SHA-256 of all before it, hexadecimal>
create or replace function rowgate.visible_stores() returns integer[]
    language plpgsql stable parallel safe security definer
    set search_path = pg_catalog, pg_temp
    -- With arrays among its parameters the query would be planned anew each time.
    set plan_cache_mode = force_generic_plan
as $$
declare
    claim text := current_setting('rowgate.claim', true);
    part text[] := string_to_array(claim, '.');
    asking text[];
    inner_block bytea;
    outer_block bytea;
    token_good boolean;
    knows boolean;
    stores integer[];
begin
    if cardinality(part) is distinct from 7 or part[1] <> 'v2' then
        raise exception 'no caller: this transaction carries no claim' using errcode = 'RG002';
    end if;
    asking := string_to_array(part[3], ',');

    select k.inner_pad, k.outer_pad,
           part[4] = '-' or exists (
               select from rowgate.tokens t
                where t.token_id = part[4] and t.principal = asking[1] and t.revoked_at is null
                  and t.expires_at > statement_timestamp()),
           asker.all_stores is not null,
           case when asker.all_stores then array(select s.store_id from rowgate.stores s)
                else array(select p.store_id from rowgate.principal_stores p where p.principal = any (asking)) end
      into inner_block, outer_block, token_good, knows, stores
      from rowgate.claim_keys k
     cross join (select bool_or(p.all_stores) as all_stores
                   from rowgate.principals p where p.principal = any (asking)) asker
     where k.key_id = part[2];
    if not found then
        raise exception 'the claim is signed with a key that this database does not know' using errcode = 'RG004';
    end if;

    -- Comparing digests of the two signatures keeps the time it takes from telling how much of a guess was right.
    if sha256(sha256(outer_block || sha256(inner_block || convert_to(left(claim, -1 - length(part[7])), 'UTF8'))))
        is distinct from sha256(case when length(part[7]) = 64 and translate(part[7], '0123456789abcdef', '') = ''
                                     then decode(part[7], 'hex') end) then
        raise exception 'the signature of the claim is wrong' using errcode = 'RG002';
    end if;
    if part[5]::bigint < extract(epoch from statement_timestamp()) then
        raise exception 'the claim has expired' using errcode = 'RG003';
    end if;
    if not token_good then
        raise exception 'the token was revoked' using errcode = 'RG005';
    end if;
    if not knows then
        raise exception 'unknown caller' using errcode = 'RG001';
    end if;
    return stores;
end
$$;

reset role;
