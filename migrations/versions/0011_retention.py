"""Since when a model's rows are there, what was erased, and an index for finding a subject."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("model", sa.Column("rows_since", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_prediction_subject",
        "prediction",
        ["subject"],
        postgresql_where=sa.text("subject IS NOT NULL"),
        # Writes wait while it is built; who has many rows makes it before (docs/operating.md).
        if_not_exists=True,
    )
    op.create_table(
        "erased_prediction",
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("ts", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "digest", name=op.f("pk_erased_prediction")),
    )
    op.create_table(
        "erasure",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.Column(
            "erased_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )


def downgrade() -> None:
    op.drop_table("erasure")
    op.drop_table("erased_prediction")
    op.drop_index("ix_prediction_subject", "prediction")
    op.drop_column("model", "rows_since")
