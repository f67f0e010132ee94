"""What becomes of personal features and tags, and under which key they are hashed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("feature", sa.Column("pii", sa.String(), server_default="keep", nullable=False))
    op.alter_column("feature", "slot", nullable=True)
    op.add_column("version", sa.Column("tag_policies", postgresql.JSONB(), nullable=True))
    op.create_table(
        "pii_key",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pii_key")),
    )


def downgrade() -> None:
    op.drop_table("pii_key")
    op.drop_column("version", "tag_policies")
    op.execute("DELETE FROM feature WHERE slot IS NULL")
    op.alter_column("feature", "slot", nullable=False)
    op.drop_column("feature", "pii")
