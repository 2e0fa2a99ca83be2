-- Which of the {{shards}} roles looks after a login: by its name, so that nothing need be remembered.
CREATE FUNCTION pgvalet_admin.shard(name text) RETURNS integer
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT get_byte(sha256(convert_to(name, 'UTF8')), 0) % {{shards}}
$fn$;
CREATE FUNCTION pgvalet_admin.shard_schema(number integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT 'pgvalet_shard_' || to_char(number, 'FM000')
$fn$;

-- What follows has nobody's rights but the caller's: each hands its work to the shards' own functions.
CREATE FUNCTION pgvalet_admin.issue(
    logins text[], groups text[], verifiers text[], untils timestamptz[], limits integer[], comments text[], settings jsonb[]
) RETURNS oid[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    share record;
    made oid[];
    oids oid[];
BEGIN
    -- The groups in one order, so that two calls do not wait for each other.
    FOR share IN
        SELECT pgvalet_admin.shard_schema(pgvalet_admin.shard(a.login)) AS schema, array_agg(a.i::int ORDER BY a.i) AS places
        FROM unnest(logins, groups) WITH ORDINALITY AS a (login, name, i) GROUP BY 1, a.name ORDER BY a.name COLLATE "C", 1
    LOOP
        EXECUTE format('SELECT %I.issue($1, $2, $3, $4, $5, $6, $7)', share.schema) INTO made
        USING ARRAY(SELECT logins[i] FROM unnest(share.places) AS i), ARRAY(SELECT groups[i] FROM unnest(share.places) AS i),
            ARRAY(SELECT verifiers[i] FROM unnest(share.places) AS i), ARRAY(SELECT untils[i] FROM unnest(share.places) AS i),
            ARRAY(SELECT limits[i] FROM unnest(share.places) AS i), ARRAY(SELECT comments[i] FROM unnest(share.places) AS i),
            ARRAY(SELECT settings[i] FROM unnest(share.places) AS i);
        FOR k IN 1 .. cardinality(share.places) LOOP
            oids[share.places[k]] := made[k];
        END LOOP;
    END LOOP;
    RETURN oids;
END
$fn$;

CREATE FUNCTION pgvalet_admin.extend(logins text[], oids oid[], untils timestamptz[]) RETURNS oid[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    share record;
    part oid[];
    done oid[] := '{}';
BEGIN
    FOR share IN
        SELECT pgvalet_admin.shard_schema(pgvalet_admin.shard(a.login)) AS schema, array_agg(a.login) AS logins,
               array_agg(a.expected) AS oids, array_agg(a.until) AS untils
        FROM unnest(logins, oids, untils) AS a (login, expected, until) GROUP BY 1 ORDER BY 1
    LOOP
        EXECUTE format('SELECT %I.extend($1, $2, $3)', share.schema) INTO part USING share.logins, share.oids, share.untils;
        done := done || part;
    END LOOP;
    RETURN done;
END
$fn$;

CREATE FUNCTION pgvalet_admin.by_shard(verb text, logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    share record;
    part oid[];
    done oid[] := '{}';
BEGIN
    FOR share IN
        SELECT pgvalet_admin.shard_schema(pgvalet_admin.shard(a.login)) AS schema, array_agg(a.login) AS logins,
               array_agg(a.expected) AS oids
        FROM unnest(logins, oids) AS a (login, expected) GROUP BY 1 ORDER BY 1
    LOOP
        EXECUTE format('SELECT %I.%I($1, $2)', share.schema, verb) INTO part USING share.logins, share.oids;
        done := done || part;
    END LOOP;
    RETURN done;
END
$fn$;
CREATE FUNCTION pgvalet_admin.take_memberships(logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE sql AS $fn$SELECT pgvalet_admin.by_shard('take_memberships', logins, oids)$fn$;
CREATE FUNCTION pgvalet_admin.fence(logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE sql AS $fn$SELECT pgvalet_admin.by_shard('fence', logins, oids)$fn$;
CREATE FUNCTION pgvalet_admin.remove(logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE sql AS $fn$SELECT pgvalet_admin.by_shard('remove', logins, oids)$fn$;

CREATE FUNCTION pgvalet_admin.take_back(login text, expected oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    EXECUTE format('SELECT %I.take_back($1, $2)', pgvalet_admin.shard_schema(pgvalet_admin.shard(login))) USING login, expected;
END
$fn$;
CREATE FUNCTION pgvalet_admin.wait_for(login text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    EXECUTE format('SELECT %I.wait_for($1)', pgvalet_admin.shard_schema(pgvalet_admin.shard(login))) USING login;
END
$fn$;
CREATE FUNCTION pgvalet_admin.end_sessions(oids oid[]) RETURNS TABLE (pid integer, told boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    RETURN QUERY SELECT * FROM pgvalet_shard_000.end_sessions(oids);
END
$fn$;
CREATE FUNCTION pgvalet_admin.make_group(name text, comment text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    PERFORM pgvalet_shard_000.make_group(name, comment);
END
$fn$;
CREATE FUNCTION pgvalet_admin.keep_epoch(name text, comment text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    PERFORM pgvalet_shard_000.keep_epoch(name, comment);
END
$fn$;
