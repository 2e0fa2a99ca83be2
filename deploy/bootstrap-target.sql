-- Makes the role that pgvalet manages logins with on one PostgreSQL cluster, with the rights that it needs and no more. PostgreSQL 13
-- to 18. May run twice. A superuser runs it with psql, or a managed service's administrator: whoever may grant the roles named below.
--
--   psql -d orders -v databases=orders -v owners=orders_owner -f bootstrap-target.sql
--   psql -d orders -c '\password pgvalet_admin'
--
--   databases   those that profiles name, separated by commas (no spaces; so too the next two)
--   owners      the roles that own the schemas and tables which profiles with `preset = "readonly"` or `"readwrite"` name
--   groups      roles that are there already and that profiles name as `group_role`
--   admin       the role to make, if it is not to be called pgvalet_admin
--
-- Up to version 15, CREATEROLE is nearly a superuser's right: whoever holds it may grant themselves roles that run programs on the
-- server. Keep that password, and who may reach the server with it (pg_hba.conf), accordingly. From 16 on it reaches only the roles that
-- pgvalet made and those granted here.

\set ON_ERROR_STOP on
\if :{?databases}
\else
    DO $$ BEGIN RAISE EXCEPTION 'name the databases: -v databases=orders,stock'; END $$;
\endif
\if :{?owners} \else \set owners '' \endif
\if :{?groups} \else \set groups '' \endif
\if :{?admin} \else \set admin pgvalet_admin \endif

SET password_encryption = 'scram-sha-256';
SELECT current_setting('server_version_num')::int >= 160000 AS grants_have_options \gset
\if :grants_have_options
    -- Has the role's rights, cannot become it, cannot pass it on.
    \set to_act_for 'WITH ADMIN FALSE, INHERIT TRUE, SET FALSE'
    -- May pass the role on, and has nothing of it.
    \set to_pass_on 'WITH ADMIN TRUE, INHERIT FALSE, SET FALSE'
\else
    \set to_act_for ''
    \set to_pass_on ''
\endif

-- The role. INHERIT: up to 15 it decides whether granting as an owner and ending sessions work.
SELECT format('CREATE ROLE %I', :'admin')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'admin') \gexec
ALTER ROLE :"admin" LOGIN INHERIT CREATEROLE NOCREATEDB CONNECTION LIMIT 32;
-- Names mean what they say, and a lock that somebody holds does not stop everything else.
ALTER ROLE :"admin" SET search_path = pg_catalog, pg_temp;
ALTER ROLE :"admin" SET lock_timeout = '10s';

-- To end the sessions of a login that is revoked; and to tell, in pg_stat_activity, a client that is just signing in from the
-- server's own processes, which a removal need not wait for.
GRANT pg_signal_backend, pg_read_all_stats TO :"admin" :to_act_for;

-- To grant on what the owners own, as they would, now and for what they make later. On 16 and later it cannot become them; their rights
-- it has. Without an owner here, pgvalet says at `plan` and `apply` what it cannot cover.
SELECT format('GRANT %I TO %I %s', owner, :'admin', :'to_act_for')
FROM unnest(string_to_array(:'owners', ',')) AS owner \gexec

-- To hand out roles that were there before. Up to 15 CREATEROLE is enough.
SELECT format('GRANT %I TO %I %s', name, :'admin', :'to_pass_on')
FROM unnest(string_to_array(:'groups', ',')) AS name
WHERE :'grants_have_options'::boolean \gexec

-- To get in, and to let logins in where not everybody is let in.
SELECT format('GRANT CONNECT ON DATABASE %I TO %I WITH GRANT OPTION', name, :'admin')
FROM unnest(string_to_array(:'databases', ',')) AS name \gexec

-- What follows is not for pgvalet: it takes from everybody what PostgreSQL gives everybody, and so from leased logins, which have nothing
-- else. Run by hand what suits, in each database that profiles name:
--
--   REVOKE CREATE ON SCHEMA public FROM PUBLIC;                      -- up to 14, and in databases that come from there
--   REVOKE TEMPORARY ON DATABASE orders FROM PUBLIC;
--   REVOKE CONNECT ON DATABASE orders FROM PUBLIC;                   -- logins are then let in one by one
--
-- and once for every database that they do not name, so that a leased login cannot open a session there:
--
--   REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
--   REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
