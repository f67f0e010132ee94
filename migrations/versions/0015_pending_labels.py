"""Labels that came before their prediction, so that they can be counted and expire."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "pending_label",
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("prediction_id", sa.String(), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("model_id", "prediction_id", name=op.f("pk_pending_label")),
    )
    op.create_index(op.f("ix_pending_label_received_at"), "pending_label", ["received_at"])


def downgrade() -> None:
    op.drop_table("pending_label")
