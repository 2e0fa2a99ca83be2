-- What the functions below may do at most. To change it, run `pgvalet bootstrap-target` again.
CREATE FUNCTION pgvalet_admin.version() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT {{version}}';
CREATE FUNCTION pgvalet_admin.way() RETURNS text
    LANGUAGE sql IMMUTABLE AS 'SELECT ''{{way}}''::text';
CREATE FUNCTION pgvalet_admin.longest_life() RETURNS interval
    LANGUAGE sql IMMUTABLE AS 'SELECT interval ''{{longest_life}}''';
CREATE FUNCTION pgvalet_admin.most_connections() RETURNS integer
    LANGUAGE sql IMMUTABLE AS 'SELECT {{most_connections}}';
CREATE FUNCTION pgvalet_admin.groups() RETURNS text[]
    LANGUAGE sql IMMUTABLE AS $fn$SELECT {{groups}}::text[]$fn$;
CREATE FUNCTION pgvalet_admin.settings() RETURNS text[]
    LANGUAGE sql IMMUTABLE AS $fn$SELECT {{settings}}::text[]$fn$;
CREATE FUNCTION pgvalet_admin.connect_role() RETURNS text
    LANGUAGE sql IMMUTABLE AS $fn$SELECT {{connect_role}}::text$fn$;

-- No backslash anywhere below: what one means in a text is the caller's to set (standard_conforming_strings).

-- The mark at the end of the comment of a role that was made here: who asked for it, and when it was. A login cannot change its own
-- comment. session_user is who signed in, also inside functions that run as somebody else.
CREATE FUNCTION pgvalet_admin.mark(made_at timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT '; made by ' || session_user || ' at ' || to_char(made_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
$fn$;

-- When a role was made here; NULL if it was not.
CREATE FUNCTION pgvalet_admin.made_at(role oid) RETURNS timestamptz
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT CASE WHEN right(d.description, 20) ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$'
                 AND right(left(d.description, -20), length('; made by ' || session_user || ' at '))
                     = '; made by ' || session_user || ' at '
                THEN right(d.description, 20)::timestamptz END
    FROM pg_shdescription d JOIN pg_roles r ON r.oid = d.objoid
    WHERE d.objoid = role AND d.classoid = 'pg_authid'::regclass
      AND NOT (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)
$fn$;

-- Is this the name of a login of ours? (A login's name: profile, who, tool, twelve letters.)
CREATE FUNCTION pgvalet_admin.is_login_name(name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $fn$
    SELECT octet_length(name) <= 63
       AND name COLLATE "C" ~ '^pgv_[A-Za-z0-9-]+_[A-Za-z0-9-]+_[A-Za-z0-9-]+_[0-9a-hjkmnp-tv-z]{12}$'
$fn$;

-- The OID of a login that was made here, or NULL if there is none of this name and OID (NULL: whatever it is). A role of this name that
-- was not made here is not touched.
CREATE FUNCTION pgvalet_admin.own_login(login text, expected oid) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    found_oid oid;
BEGIN
    SELECT oid INTO found_oid FROM pg_roles WHERE rolname = login;
    IF found_oid IS NULL OR found_oid <> coalesce(expected, found_oid) THEN
        RETURN NULL;
    END IF;
    IF (pgvalet_admin.is_login_name(login)) IS NOT TRUE OR pgvalet_admin.made_at(found_oid) IS NULL THEN
        RAISE EXCEPTION 'the role "%" was not made here', login USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN found_oid;
END
$fn$;

-- Refuses a group that is not to be handed out: one that is neither listed nor made here, or that reaches beyond grants.
CREATE FUNCTION pgvalet_admin.check_group(name text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $fn$
DECLARE
    role record;
BEGIN
    SELECT oid, rolcanlogin INTO role FROM pg_roles WHERE rolname = name;
    IF (role.oid IS NOT NULL AND NOT role.rolcanlogin AND (
            name = ANY (pgvalet_admin.groups())
            OR (name COLLATE "C" ~ '^pgvg_[A-Za-z0-9_]+$' AND pgvalet_admin.made_at(role.oid) IS NOT NULL))) IS NOT TRUE THEN
        RAISE EXCEPTION 'the role "%" is none that may be handed out here', name USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (
        WITH RECURSIVE reached (oid) AS (
            SELECT role.oid
            UNION
            -- OFFSET 0: by the index on the member, however many members there are.
            SELECT m.roleid FROM reached, LATERAL (SELECT roleid FROM pg_auth_members WHERE member = reached.oid OFFSET 0) m
        )
        SELECT FROM reached JOIN pg_roles r ON r.oid = reached.oid
        WHERE r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
           OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                            'pg_signal_backend', 'pg_create_subscription')
    ) THEN
        RAISE EXCEPTION 'the members of "%" could do more than what it was granted', name
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$fn$;
