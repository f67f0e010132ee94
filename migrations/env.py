"""Alembic's entry; the connection is handed over by service/db/migrate.py."""

from alembic import context
from sqlalchemy import text

import service.access.tables
import service.alerts.tables
import service.buckets.tables
import service.db.turns
import service.foreign.tables
import service.ingest.tables
import service.ledger.tables
import service.registry.tables
import service.retraining.tables
import service.runs.tables
import service.webhooks.tables  # noqa: F401  importing is what registers the tables
from service.db.base import Base

connection = context.config.attributes["connection"]

# Partitions are made by the service as models and months come up; no migration knows them.
partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name not in partitions


context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_name=is_ours,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
