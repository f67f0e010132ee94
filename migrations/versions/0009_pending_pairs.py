"""Halves of inferences whose other half has not come yet."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "pending_pair",
        sa.Column("model_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pair", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("correlation", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("request_hash", sa.BigInteger(), nullable=True),
        sa.Column("request_token", sa.BigInteger(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("response_hash", sa.BigInteger(), nullable=True),
        sa.Column("response_token", sa.BigInteger(), nullable=True),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "pair", name=op.f("pk_pending_pair")),
    )
    op.create_index(op.f("ix_pending_pair_received_at"), "pending_pair", ["received_at"])
    op.create_index(
        "ix_pending_pair_waiting",
        "pending_pair",
        ["received_at"],
        postgresql_where=sa.text("stored_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("pending_pair")
