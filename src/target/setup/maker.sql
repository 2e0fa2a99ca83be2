-- Makes logins, all or none. One that is there is set right if it was made here within the last two minutes: an earlier try whose
-- outcome nobody heard.
CREATE FUNCTION {{schema}}.issue(
    logins text[], groups text[], verifiers text[], untils timestamptz[], limits integer[], comments text[], settings jsonb[]
) RETURNS oid[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    has_options CONSTANT boolean := current_setting('server_version_num')::int >= 160000;
    n CONSTANT integer := coalesce(cardinality(logins), 0);
    earlier timestamptz[];
    oids oid[];
    asked record;
    login text;
    role oid;
    verb text;
    list text;
BEGIN
    IF (n BETWEEN 1 AND 64 AND cardinality(groups) = n AND cardinality(verifiers) = n AND cardinality(untils) = n
        AND cardinality(limits) = n AND cardinality(comments) = n AND cardinality(settings) = n) IS NOT TRUE THEN
        RAISE EXCEPTION 'seven lists of one length, 1 to 64, are needed' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR asked IN SELECT DISTINCT name FROM unnest(groups) AS name LOOP
        PERFORM pgvalet_admin.check_group(asked.name);
    END LOOP;
    -- All roles before the first GRANT: from 16 on that locks its group until the commit.
    FOR i IN 1 .. n LOOP
        login := logins[i];
        IF (pgvalet_admin.is_login_name(login)) IS NOT TRUE THEN
            RAISE EXCEPTION '"%" is no name of a login', login USING ERRCODE = 'invalid_parameter_value';
        END IF;
{{own_share}}        -- PostgreSQL takes anything else for a password, in the clear. The iterations cost the server time.
        IF (verifiers[i] COLLATE "C" ~ '^SCRAM-SHA-256[$][1-9][0-9]{3,5}:[A-Za-z0-9+/]{21}[AQgw]==[$][A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$')
            IS NOT TRUE THEN
            RAISE EXCEPTION 'no SCRAM verifier for "%"', login USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF (untils[i] > moment AND untils[i] <= moment + pgvalet_admin.longest_life()) IS NOT TRUE THEN
            RAISE EXCEPTION '"%" would not end within %', login, pgvalet_admin.longest_life()
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF (limits[i] BETWEEN 1 AND pgvalet_admin.most_connections()) IS NOT TRUE THEN
            RAISE EXCEPTION '"%" would have more than % connections, or none', login, pgvalet_admin.most_connections()
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        IF (length(comments[i]) BETWEEN 1 AND 500) IS NOT TRUE OR jsonb_typeof(settings[i]) IS DISTINCT FROM 'object' THEN
            RAISE EXCEPTION '"%" needs a comment and settings', login USING ERRCODE = 'invalid_parameter_value';
        END IF;
        SELECT oid INTO role FROM pg_roles WHERE rolname = login;
        IF NOT FOUND THEN
            verb := 'CREATE';
            earlier[i] := moment;
        ELSE
            verb := 'ALTER';
            earlier[i] := pgvalet_admin.made_at(role);
            IF (earlier[i] > moment - interval '2 minutes') IS NOT TRUE THEN
                RAISE EXCEPTION 'there is a role "%" already', login USING ERRCODE = 'insufficient_privilege';
            END IF;
        END IF;
        EXECUTE format('%s ROLE %I LOGIN NOINHERIT PASSWORD %L VALID UNTIL %L CONNECTION LIMIT %s', verb, login, verifiers[i],
            to_char(untils[i] AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', limits[i]);
        IF verb = 'ALTER' THEN
            EXECUTE format('ALTER ROLE %I RESET ALL', login);
        END IF;
        SELECT oid INTO role FROM pg_roles WHERE rolname = login;
        oids[i] := role;
    END LOOP;
    -- The groups in one order, so that two calls do not wait for each other.
    FOR asked IN
        SELECT a.name, string_agg(format('%I', a.login), ', ') AS members
        FROM unnest(groups, logins) AS a (name, login) GROUP BY a.name ORDER BY a.name COLLATE "C"
    LOOP
        EXECUTE format('GRANT %I TO %s%s', asked.name, asked.members,
            CASE WHEN has_options THEN ' WITH ADMIN FALSE, INHERIT FALSE, SET TRUE' ELSE '' END);
    END LOOP;
    FOR i IN 1 .. n LOOP
        login := logins[i];
        FOR asked IN SELECT key, value FROM jsonb_each_text(settings[i]) LOOP
            IF (asked.key = ANY (pgvalet_admin.settings())) IS NOT TRUE THEN
                RAISE EXCEPTION 'the setting "%" is none that may be given here', asked.key
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
            -- Lists of names, written as one text, would become one strange name.
            IF asked.key IN ('search_path', 'temp_tablespaces') THEN
                SELECT string_agg(quote_literal(btrim(btrim(item), '"')), ', ') INTO list
                FROM unnest(string_to_array(asked.value, ',')) AS item;
            ELSE
                list := quote_literal(asked.value);
            END IF;
            EXECUTE format('ALTER ROLE %I SET %s = %s', login,
                (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(asked.key, '.')) AS part),
                coalesce(list, ''''''));
        END LOOP;
        IF NOT has_database_privilege(oids[i], current_database(), 'CONNECT') THEN
            EXECUTE format(
                CASE WHEN has_options THEN 'GRANT %1$I TO %2$I WITH ADMIN FALSE, INHERIT TRUE, SET FALSE'
                     ELSE 'GRANT CONNECT ON DATABASE %3$I TO %2$I' END,
                pgvalet_admin.connect_role(), login, current_database());
        END IF;
        EXECUTE format('COMMENT ON ROLE %I IS %L', login, comments[i] || pgvalet_admin.mark(earlier[i]));
    END LOOP;
    -- Nothing but what was asked for. Each by its own few rows: there may be very many logins.
    FOR i IN 1 .. n LOOP
        SELECT INTO asked
            count(*) FILTER (WHERE g.name = groups[i]) AS wanted,
            count(*) FILTER (WHERE g.name <> groups[i] AND NOT (has_options AND g.name = pgvalet_admin.connect_role())) AS others,
            coalesce(bool_or(g.admin_option), false) AS passes_on
        FROM (SELECT pg_get_userbyid(m.roleid)::text AS name, m.admin_option FROM pg_auth_members m WHERE m.member = oids[i]) g;
        IF (asked.wanted = 1 AND asked.others = 0 AND NOT asked.passes_on
            AND has_database_privilege(oids[i], current_database(), 'CONNECT')
            AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = oids[i] AND r.rolcanlogin AND NOT (r.rolinherit OR r.rolsuper
                        OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls))) IS NOT TRUE THEN
            RAISE EXCEPTION '"%" would not be as asked for', logins[i] USING ERRCODE = 'insufficient_privilege';
        END IF;
    END LOOP;
    RETURN oids;
END
$fn$;

-- Moves the end of logins, within the life that each may have from when it was made. Gives the OIDs of those that are there.
CREATE FUNCTION {{schema}}.extend(logins text[], oids oid[], untils timestamptz[]) RETURNS oid[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    done oid[] := '{}';
    role oid;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(logins), 0) LOOP
        role := pgvalet_admin.own_login(logins[i], oids[i]);
        CONTINUE WHEN role IS NULL;
        IF (isfinite(untils[i]) AND untils[i] <= pgvalet_admin.made_at(role) + pgvalet_admin.longest_life()) IS NOT TRUE THEN
            RAISE EXCEPTION '"%" would not end within % of when it was made', logins[i], pgvalet_admin.longest_life()
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        EXECUTE format('ALTER ROLE %I VALID UNTIL %L', logins[i],
            to_char(untils[i] AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00');
        done := done || role;
    END LOOP;
    RETURN done;
END
$fn$;

-- Takes the logins' memberships, and from others the membership in a login. Gives the OIDs of those that are there.
CREATE FUNCTION {{schema}}.take_memberships(logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    has_options CONSTANT boolean := current_setting('server_version_num')::int >= 160000;
    done oid[] := '{}';
    role oid;
    held record;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(logins), 0) LOOP
        role := pgvalet_admin.own_login(logins[i], oids[i]);
        CONTINUE WHEN role IS NULL;
        FOR held IN
            -- Of each only its own few rows, found by an index: there may be very many logins.
            SELECT pg_get_userbyid(a.roleid) AS name, pg_get_userbyid(a.member) AS member, pg_get_userbyid(a.grantor) AS grantor
            FROM (SELECT roleid, member, grantor FROM pg_auth_members WHERE member = role
                  UNION ALL
                  SELECT roleid, member, grantor FROM pg_auth_members WHERE roleid = role) a
            WHERE pg_get_userbyid(a.member) <> current_user
        LOOP
            BEGIN
                EXECUTE format('REVOKE %I FROM %I%s CASCADE', held.name, held.member,
                    CASE WHEN has_options THEN format(' GRANTED BY %I', held.grantor) ELSE '' END);
            EXCEPTION
                -- Out of reach: it goes with the role.
                WHEN insufficient_privilege THEN NULL;
            END;
        END LOOP;
        done := done || role;
    END LOOP;
    RETURN done;
END
$fn$;

-- Lets nobody new in as these logins. Gives the OIDs of those that are there.
CREATE FUNCTION {{schema}}.fence(logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    done oid[] := '{}';
    role oid;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(logins), 0) LOOP
        role := pgvalet_admin.own_login(logins[i], oids[i]);
        CONTINUE WHEN role IS NULL;
        EXECUTE format('ALTER ROLE %I NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL', logins[i]);
        done := done || role;
    END LOOP;
    RETURN done;
END
$fn$;

-- Ends the sessions of logins that were made here, and those whose role is gone already.
CREATE FUNCTION {{schema}}.end_sessions(oids oid[]) RETURNS TABLE (pid integer, told boolean)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
    WITH own AS MATERIALIZED (
        SELECT a.pid FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
        WHERE a.usesysid = ANY (oids)
          AND (r.oid IS NULL OR (pgvalet_admin.is_login_name(r.rolname::text) AND pgvalet_admin.made_at(r.oid) IS NOT NULL))
    )
    SELECT own.pid, pg_terminate_backend(own.pid) FROM own
$fn$;

-- Gives away what a login owns in this database, and takes what it was granted here and on the whole cluster.
CREATE FUNCTION {{schema}}.take_back(login text, expected oid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    role CONSTANT oid := pgvalet_admin.own_login(login, expected);
BEGIN
    IF role IS NULL THEN
        RETURN;
    END IF;
    IF (SELECT rolcanlogin FROM pg_roles WHERE oid = role) THEN
        RAISE EXCEPTION '"%" may still sign in: fence it first', login USING ERRCODE = 'object_in_use';
    END IF;
{{join_it}}    EXECUTE format('REASSIGN OWNED BY %I TO {{graveyard}}', login);
    EXECUTE format('DROP OWNED BY %I', login);
END
$fn$;

-- Drops logins that are fenced. Gives the OIDs of those that were there.
CREATE FUNCTION {{schema}}.remove(logins text[], oids oid[]) RETURNS oid[]
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    done oid[] := '{}';
    role oid;
BEGIN
    FOR i IN 1 .. coalesce(cardinality(logins), 0) LOOP
        role := pgvalet_admin.own_login(logins[i], oids[i]);
        CONTINUE WHEN role IS NULL;
        IF (SELECT rolcanlogin FROM pg_roles WHERE oid = role) THEN
            RAISE EXCEPTION '"%" may still sign in: fence it first', logins[i] USING ERRCODE = 'object_in_use';
        END IF;
        EXECUTE format('DROP ROLE %I', logins[i]);
        done := done || role;
    END LOOP;
    RETURN done;
END
$fn$;

-- Waits until nobody is making a role of this name any more: a transaction that made it and did not commit is invisible. Fails if there
-- is one then.
CREATE FUNCTION {{schema}}.wait_for(login text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    IF (pgvalet_admin.is_login_name(login)) IS NOT TRUE THEN
        RAISE EXCEPTION '"%" is no name of a login', login USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('CREATE ROLE %I NOLOGIN', login);
    RAISE EXCEPTION 'undone' USING ERRCODE = 'PV001';
EXCEPTION
    WHEN SQLSTATE 'PV001' THEN NULL;
END
$fn$;

-- Makes the group role of a profile, with no rights: those come from owners. It may then be handed out.
CREATE FUNCTION {{schema}}.make_group(name text, comment text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    IF (octet_length(name) <= 63 AND name COLLATE "C" ~ '^pgvg_[A-Za-z0-9_]+$' AND length(comment) BETWEEN 1 AND 500)
        IS NOT TRUE THEN
        RAISE EXCEPTION '"%" is no name of a group role of ours', name USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', name);
{{pass_on}}    EXECUTE format('COMMENT ON ROLE %I IS %L', name, comment || pgvalet_admin.mark(clock_timestamp()));
END
$fn$;

-- Keeps what an installation's target knows of its record: the comment on a role that can do nothing.
CREATE FUNCTION {{schema}}.keep_epoch(name text, comment text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fn$
BEGIN
    IF (octet_length(name) <= 63 AND name COLLATE "C" ~ '^pgvm_[a-z0-9]+$' AND length(comment) BETWEEN 1 AND 500) IS NOT TRUE THEN
        RAISE EXCEPTION '"%" is no name of a role of this kind', name USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', name);
    END IF;
    EXECUTE format('COMMENT ON ROLE %I IS %L', name, comment);
END
$fn$;
