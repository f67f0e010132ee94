-- The role that Grafana reads as: results of windows, and neither rows, nor keys, nor secrets.
-- psql -f grafana/reader.sql as somebody who may make roles, after `modelwatch migrate`; it may run again.
-- Then give it a password: \password modelwatch_reader
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'modelwatch_reader') THEN
    CREATE ROLE modelwatch_reader LOGIN;
  END IF;
END $$;
ALTER ROLE modelwatch_reader CONNECTION LIMIT 10;
GRANT USAGE ON SCHEMA public TO modelwatch_reader;
GRANT SELECT ON model, version, "window", latest_window, measurement TO modelwatch_reader;

-- Against accidents: a session may set these otherwise.
ALTER ROLE modelwatch_reader SET default_transaction_read_only = on;
ALTER ROLE modelwatch_reader SET statement_timeout = '30s';
ALTER ROLE modelwatch_reader SET idle_in_transaction_session_timeout = '30s';

-- Against intent: nowhere to write to, and no lock to fill the table of locks with that the service
-- takes its own from.  The service makes no temporary tables; whoever else does in this database
-- needs a grant of its own.
DO $$
DECLARE
  owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'model'::regclass);
  called regprocedure;
BEGIN
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  REVOKE CREATE ON SCHEMA public FROM PUBLIC;
  -- The rest is a superuser's to say.
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    FOR called IN
      SELECT oid FROM pg_proc
      WHERE pronamespace = 'pg_catalog'::regnamespace AND (
        proname ~ '^pg_(try_)?advisory_'
        OR proname IN ('pg_logical_emit_message', 'pg_notify', 'pg_export_snapshot')
        OR proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
      )
    LOOP
      EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', called);
      -- A release from before takes advisory locks, and runs until it is replaced.
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', called, owner);
    END LOOP;
    ALTER ROLE modelwatch_reader SET temp_file_limit = '1GB';
  END IF;
END $$;
