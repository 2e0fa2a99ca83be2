-- Makes the role that pgvalet manages logins with on one PostgreSQL cluster, with the rights that it needs and no more.
-- For PostgreSQL 16, the way "direct". Written by `pgvalet bootstrap-target`; `--apply` runs it. May run twice.
-- A superuser runs it, or a managed service's administrator: whoever may grant the roles named below.

\set ON_ERROR_STOP on
-- The password is yours to set, in psql: \password pgvalet_admin

-- The role that pgvalet signs in as. INHERIT: up to 15 it decides whether granting as an owner and ending sessions work.
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgvalet_admin') THEN
        CREATE ROLE "pgvalet_admin";
    END IF;
END
$do$;
ALTER ROLE "pgvalet_admin" LOGIN INHERIT CREATEROLE CONNECTION LIMIT 32;

-- Names mean what they say, and a lock that somebody holds does not stop everything else.
ALTER ROLE "pgvalet_admin" SET search_path = pg_catalog, pg_temp;
ALTER ROLE "pgvalet_admin" SET lock_timeout = '10s';

-- To end the sessions of a login that is revoked, and to tell a client that is just signing in from the server's own processes,
-- which a removal need not wait for.
GRANT "pg_signal_backend" TO "pgvalet_admin" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE;
GRANT "pg_read_all_stats" TO "pgvalet_admin" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE;

-- What a removed login owned is given to this role, which can do nothing. The admin must be able to become it to give it
-- something.
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pgvalet_graveyard') THEN
        CREATE ROLE "pgvalet_graveyard" NOLOGIN NOINHERIT;
    END IF;
END
$do$;
GRANT "pgvalet_graveyard" TO "pgvalet_admin" WITH ADMIN FALSE, INHERIT TRUE, SET TRUE;

-- To grant on what these own, as they would, now and for what they make later. From 16 on it cannot become them; their rights it
-- has.
GRANT "orders_owner" TO "pgvalet_admin" WITH ADMIN FALSE, INHERIT TRUE, SET FALSE;

-- To get in, and to let logins in where not everybody is let in.
GRANT CONNECT ON DATABASE "orders" TO "pgvalet_admin" WITH GRANT OPTION;

\connect "orders"
-- Nobody makes tables and functions in schema public unasked (everybody may up to 14, and in databases that come from there).
-- [--harden schema]
--   REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- No temporary tables, unless granted. [--harden temporary]
--   REVOKE TEMPORARY ON DATABASE "orders" FROM PUBLIC;

-- Nobody gets in unless let in; logins are, one by one. [--harden connect]
--   REVOKE CONNECT ON DATABASE "orders" FROM PUBLIC;

-- A leased login opens no session beside the databases that it is for. Do the same for every other database of the cluster.
-- [--harden other-databases]
--   REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
--   REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
