DO $shards$
DECLARE
    shard text;
    is_superuser CONSTANT boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    installer CONSTANT text := current_user;
BEGIN
    FOR number IN 0 .. {{last_shard}} LOOP
        shard := pgvalet_admin.shard_schema(number);
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = shard) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN CREATEROLE', shard);
        END IF;
        EXECUTE format('GRANT pgvalet_shards TO %I WITH ADMIN FALSE, INHERIT TRUE, SET TRUE', shard);
        IF NOT is_superuser THEN
            EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET TRUE', shard, installer);
        END IF;
        -- To each by itself: a right that comes by a membership takes long to find with many logins.
        EXECUTE format('GRANT USAGE ON SCHEMA pgvalet_admin TO %I', shard);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgvalet_admin TO %I', shard);
        EXECUTE format('DROP SCHEMA IF EXISTS %I CASCADE', shard);
        EXECUTE format('CREATE SCHEMA %1$I AUTHORIZATION %1$I', shard);
        -- The functions belong to the shard, and work with its rights.
        EXECUTE format('SET LOCAL ROLE %I', shard);
        EXECUTE replace(replace($maker$
{{maker}}$maker$, '{{' || 'schema}}', shard), '{{' || 'number}}', number::text);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', shard);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', shard, $name${{admin}}$name$);
        EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA %I TO %s', shard, $name${{admin}}$name$);
        EXECUTE format('SET LOCAL ROLE %I', installer);
        IF NOT is_superuser THEN
            EXECUTE format('REVOKE %I FROM %I', shard, installer);
        END IF;
    END LOOP;
END
$shards$;
