-- The demo shop, part 2: the role that pgvalet manages logins with. Run in database postgres as the
-- superuser, after part 1. May run twice. It is not a superuser, and has what it needs and no more.

DO $$
DECLARE
  tracks_grantors boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgvalet_admin') THEN
    CREATE ROLE pgvalet_admin;
  END IF;
  -- INHERIT: up to version 15, ending sessions and granting on the shop's tables ask for it.
  ALTER ROLE pgvalet_admin LOGIN INHERIT CREATEROLE NOCREATEDB CONNECTION LIMIT 32;
  -- Names mean what they say, and a lock that somebody holds does not stop everything else.
  ALTER ROLE pgvalet_admin SET search_path = pg_catalog, pg_temp;
  ALTER ROLE pgvalet_admin SET lock_timeout = '10s';
  -- Gets what a removed login owned. It is a member of nothing, and nobody's but the admins'.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgvalet_graveyard') THEN
    CREATE ROLE pgvalet_graveyard NOLOGIN NOINHERIT;
  END IF;
  IF tracks_grantors THEN
    -- The options of a grant exist since version 16, hence EXECUTE.
    EXECUTE 'GRANT shop_owner TO pgvalet_admin WITH ADMIN FALSE, INHERIT TRUE, SET FALSE';
    EXECUTE 'GRANT pg_read_all_stats TO pgvalet_admin WITH ADMIN FALSE, INHERIT TRUE, SET FALSE';
    EXECUTE 'GRANT pg_signal_backend TO pgvalet_admin WITH ADMIN FALSE, INHERIT TRUE, SET FALSE';
    -- To hand an object over takes both: the new owner's rights, and that one may become it.
    EXECUTE 'GRANT pgvalet_graveyard TO pgvalet_admin WITH ADMIN FALSE, INHERIT TRUE, SET TRUE';
    -- It may hand this group on, and may not use it.
    EXECUTE 'GRANT shop_support TO pgvalet_admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
  ELSE
    GRANT shop_owner, pgvalet_graveyard TO pgvalet_admin;
    -- Up to version 15 CREATEROLE alone may hand shop_support on.
    GRANT pg_read_all_stats, pg_signal_backend TO pgvalet_admin;
  END IF;
END $$;

ALTER ROLE pgvalet_admin PASSWORD {{verifier}};
