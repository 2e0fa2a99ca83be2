-- The demo shop, part 1: roles. Run in database postgres as the superuser. May run twice.

DO $$
BEGIN
  -- Owns the database and everything in it; nobody logs in as it.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_owner') THEN
    CREATE ROLE shop_owner NOLOGIN;
  END IF;
  -- A group role that was there before pgvalet: what `group_role = "shop_support"` uses.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_support') THEN
    CREATE ROLE shop_support NOLOGIN;
  END IF;
END $$;

-- A login that may only use the shop must not open sessions beside it.
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
