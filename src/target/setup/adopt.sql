DO $adopt$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT r.rolname, d.description
        FROM pg_catalog.pg_roles r
        JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
        WHERE (pgvalet_admin.is_login_name(r.rolname) AND d.description LIKE 'pgvalet %'
               OR r.rolname LIKE 'pgvg\_%' AND d.description LIKE 'pgvalet group role %')
          AND d.description !~ '; made by .* at [0-9TZ:-]{20}$'
          AND (pg_catalog.current_setting('server_version_num')::int < 160000 OR EXISTS (
              SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles a ON a.oid = m.member
              WHERE m.roleid = r.oid AND m.admin_option AND a.rolname = {{admin}}))
    LOOP
        EXECUTE format('COMMENT ON ROLE %I IS %L', made.rolname, made.description || '; made by ' || {{admin}} || ' at '
            || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
    END LOOP;
END
$adopt$
