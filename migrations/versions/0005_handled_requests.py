"""A retraining request says who handled it, and when it was closed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    for name in ("handled_by", "note"):
        op.add_column("retraining_request", sa.Column(name, sa.String(), nullable=True))
    op.add_column(
        "retraining_request", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    for name in ("closed_at", "note", "handled_by"):
        op.drop_column("retraining_request", name)
