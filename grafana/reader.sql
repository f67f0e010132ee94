-- The role that Grafana reads as: results of windows, and neither rows, nor keys, nor secrets.
-- psql "$MODELWATCH_DATABASE_URL" -f grafana/reader.sql, after `modelwatch migrate`; it may run again.
-- Then give it a password: ALTER ROLE modelwatch_reader PASSWORD '...'
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'modelwatch_reader') THEN
    CREATE ROLE modelwatch_reader LOGIN CONNECTION LIMIT 10;
  END IF;
END $$;
ALTER ROLE modelwatch_reader SET default_transaction_read_only = on;
ALTER ROLE modelwatch_reader SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO modelwatch_reader;
GRANT SELECT ON model, version, "window", latest_window, measurement TO modelwatch_reader;
