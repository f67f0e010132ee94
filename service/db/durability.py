"""Whether the database keeps what it has committed."""

# ``pg_settings`` would look at all of its hundreds of rows.
LOSSY = (
    "SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes', 'synchronous_commit']) AS name "
    "WHERE current_setting(name) = 'off'"
)
"""Names of the settings under which a crash loses what was acknowledged."""
