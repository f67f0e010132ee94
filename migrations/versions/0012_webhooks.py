"""Webhooks as documents; an event has a delivery for each of them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_TIME = sa.DateTime(timezone=True)
_ONCE = "uq_outbox_dedupe_key"
_ONCE_EACH = "uq_outbox_dedupe_key_webhook_id"


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("busy_until", _TIME, nullable=True),
        sa.Column("disabled_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
        sa.UniqueConstraint("name", name=op.f("uq_webhook_name")),
    )
    op.add_column("outbox", sa.Column("webhook_id", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("replayed_at", _TIME, nullable=True))
    op.create_foreign_key(
        op.f("fk_outbox_webhook_id"),
        "outbox",
        "webhook",
        ["webhook_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_index(op.f("ix_outbox_webhook_id"), "outbox", ["webhook_id"])
    # The release before this one inserts each event once, and needs no constraint to do so.
    op.drop_constraint(op.f(_ONCE), "outbox", type_="unique")
    op.create_unique_constraint(op.f(_ONCE_EACH), "outbox", ["dedupe_key", "webhook_id"])


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE webhook_id IS NOT NULL")
    op.drop_constraint(op.f(_ONCE_EACH), "outbox", type_="unique")
    op.create_unique_constraint(op.f(_ONCE), "outbox", ["dedupe_key"])
    op.drop_index(op.f("ix_outbox_webhook_id"), "outbox")
    op.drop_constraint(op.f("fk_outbox_webhook_id"), "outbox", type_="foreignkey")
    op.drop_column("outbox", "replayed_at")
    op.drop_column("outbox", "webhook_id")
    op.drop_table("webhook")
